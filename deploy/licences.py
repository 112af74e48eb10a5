#!/usr/bin/env python3
"""Prints the licences of everything that is built into weir, each text once with the crates that have it.

Usage: licences.py > THIRD-PARTY.txt, in a checkout, after `cargo fetch --locked`. Whoever passes the binary on
passes this on with it: most licences ask for no more.
"""

import collections
import json
import pathlib
import subprocess
import sys

LOOKS_LIKE = ("licen", "copying", "notice", "copyright", "unlicense")


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main():
    metadata = json.loads(output("cargo", "metadata", "--format-version=1", "--locked", "--offline"))
    packages = {(p["name"], p["version"]): p for p in metadata["packages"]}
    # What `weir` itself is linked from, on this platform: neither tests nor build scripts' own crates.
    tree = output("cargo", "tree", "--locked", "--offline", "-p", "weir", "-e", "normal", "--prefix=none", "-f={p}")
    names = sorted({tuple(line.split()[:2]) for line in tree.splitlines() if line.strip()})
    texts = collections.defaultdict(list)
    silent = []
    for name, version in names:
        if name == "weir":
            continue
        package = packages[(name, version.removeprefix("v"))]
        folder = pathlib.Path(package["manifest_path"]).parent
        found = [f for f in sorted(folder.iterdir()) if f.is_file() and f.name.lower().startswith(LOOKS_LIKE)]
        label = f"{name} {version.removeprefix('v')} ({package['license']})"
        if not found:
            silent.append(f"{label}, {package['repository']}")
        for file in found:
            texts[file.read_text(errors="replace").strip()].append(label)
    print("weir is built from the following, each under its own licence.\n")
    if silent:
        print("These name their licence and ship no text of it:\n")
        print("\n".join(f"  {line}" for line in silent))
    for text, crates in sorted(texts.items(), key=lambda item: item[1]):
        print("\n" + "=" * 79)
        print("\n".join(dict.fromkeys(crates)))
        print("-" * 79 + "\n" + text)


if __name__ == "__main__":
    sys.exit(main())
