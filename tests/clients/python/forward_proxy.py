"""Python requests through the forward proxy, to a TLS server and a plain one."""

import os
import sys

import requests

SECURE, PLAIN = os.environ["SECURE_URL"], os.environ["PLAIN_URL"]
HEADERS = {"Authorization": os.environ["TOKEN"], "User-Agent": "DiscordBot (test, 1)"}


def main():
    session = requests.Session()
    # What the surroundings say about proxies is not asked.
    session.trust_env = False
    session.proxies = {"http": os.environ["PROXY"], "https": os.environ["PROXY"]}
    session.verify = os.environ["CA_FILE"]
    for base in (SECURE, PLAIN):
        for _ in range(5):
            answer = session.get(base + "/api/v10/users/@me", headers=HEADERS, timeout=20)
            assert answer.status_code == 200, (base, answer.status_code, answer.text)
            assert answer.json()["id"]
        # Of a size that fills every buffer on its way.
        large = session.post(
            base + "/nothing/here", headers=HEADERS, data=b"x" * 300_000, timeout=20
        )
        assert large.status_code == 404, (base, large.status_code)
    session.proxies = {"http": os.environ["WRONG_PROXY"], "https": os.environ["WRONG_PROXY"]}
    answer = session.get(PLAIN + "/api/v10/users/@me", headers=HEADERS, timeout=20)
    assert answer.status_code == 407, answer.status_code
    try:
        session.get(SECURE + "/api/v10/users/@me", headers=HEADERS, timeout=20)
    except requests.exceptions.ProxyError as error:
        assert "407" in str(error), error
    else:
        sys.exit("a tunnel without credentials")
    print("ok")


main()
