"""hikari through weir: `RESTApp` with `url=`, with the rate limiter it ships."""

import asyncio

import hikari
from scenario import *


async def started():
    app = hikari.RESTApp(url=f"{WEIR_URL}/api/v10")
    await app.start()
    rest = app.acquire(BOT_TOKEN, hikari.TokenType.BOT)
    rest.start()
    return app, rest


async def main(scenario):
    app, rest = await started()

    with scenario.step("fetches its own user"):
        expect((await rest.fetch_my_user()).id > 0, "no own user")

    with scenario.step("sends a message"):
        message = await rest.create_message(CHANNEL, "of hikari")
        expect(message.content == "of hikari", f"the content became {message.content!r}")
        expect(message.channel_id == CHANNEL, f"the channel became {message.channel_id}")

    with scenario.step("sends a message with files"):
        files = [hikari.Bytes(FILE, "bytes.bin"), hikari.Bytes(b"short", "short.txt")]
        sent = await rest.create_message(CHANNEL, "with files", attachments=files)
        expect(sent.id > message.id, f"id {sent.id} is not after {message.id}")
        expect([(f.filename, f.size) for f in sent.attachments] == [("bytes.bin", len(FILE)), ("short.txt", 5)],
               f"attachments became {sent.attachments}")

    with scenario.step("puts, lists and deletes reactions"):
        await rest.add_reaction(CHANNEL, message.id, "👍")
        await rest.add_reaction(CHANNEL, message.id, "weir", 300000000000000099)
        async for user in rest.fetch_reactions_for_emoji(CHANNEL, message.id, "👍").limit(1):
            expect(user.id > 0, "a user without id")
        await rest.delete_my_reaction(CHANNEL, message.id, "👍")
        await rest.delete_all_reactions(CHANNEL, message.id)

    with scenario.step("reads a channel, a message, its history and a user"):
        expect((await rest.fetch_channel(CHANNEL)).id == CHANNEL, "another channel came back")
        expect((await rest.fetch_message(CHANNEL, message.id)).id == message.id, "another message came back")
        async for one in rest.fetch_messages(CHANNEL).limit(2):
            expect(one.channel_id == CHANNEL, "history of another channel")
        expect((await rest.fetch_user(300000000000000020)).id == 300000000000000020, "another user came back")

    with scenario.step("is told of what is not there"):
        try:
            await rest.fetch_message(CHANNEL, UNKNOWN_MESSAGE)
        except hikari.NotFoundError as error:
            expect(error.code == 10008, f"code {error.code}")
        else:
            raise AssertionError("an unknown message was found")

    with scenario.step("executes a webhook"):
        said = await rest.execute_webhook(WEBHOOK, WEBHOOK_TOKEN, "by webhook")
        expect(said.content == "by webhook", f"the content became {said.content!r}")

    with scenario.step("answers an interaction"):
        await rest.create_interaction_response(
            INTERACTION, INTERACTION_TOKEN, hikari.ResponseType.MESSAGE_CREATE, "pong"
        )

    with scenario.step("edits and deletes a message"):
        edited = await rest.edit_message(CHANNEL, message.id, "edited")
        expect(edited.content == "edited", f"the content became {edited.content!r}")
        await rest.delete_message(CHANNEL, message.id)

    # Twenty apps of one bot, as if each were a process: none knows what the others have used up.
    fleet = [await started() for _ in range(BURST)]

    async def send(seq):
        return (await fleet[seq][1].create_message(BURST_CHANNEL, f"client:burst seq:{seq}")).id

    async def own_burst():
        sent = await asyncio.gather(
            *(rest.create_message(OWN_BURST_CHANNEL, f"burst of one client {i}") for i in range(12))
        )
        expect(len({m.id for m in sent}) == 12, "a message of the client's own burst is missing")

    with scenario.step(f"{BURST} clients of one bot send at once to one channel, and one bursts in another"):
        await asyncio.gather(scenario.burst([lambda seq=seq: send(seq) for seq in range(BURST)]), own_burst())

    for one_app, one_rest in [(app, rest), *fleet]:
        await one_rest.close()
        await one_app.close()


if __name__ == "__main__":
    Scenario("hikari", "hikari").run(main)
