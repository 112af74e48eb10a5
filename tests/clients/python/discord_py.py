"""discord.py through weir: its REST half alone, no gateway, with the rate limiter it ships."""

import asyncio
import io

import discord
from scenario import *

# The way in that discord.py has: the class attribute all its URLs start with.
discord.http.Route.BASE = f"{WEIR_URL}/api/v10"


async def logged_in():
    client = discord.Client(intents=discord.Intents(guilds=True))
    await client.login(BOT_TOKEN)
    return client


async def main(scenario):
    with scenario.step("logs in"):
        client = await logged_in()
        expect(client.user is not None and client.user.id > 0, "no own user")
    channel = client.get_partial_messageable(CHANNEL)

    with scenario.step("sends a message"):
        message = await channel.send("of discord.py")
        expect(message.content == "of discord.py", f"the content became {message.content!r}")
        expect(message.channel.id == CHANNEL, f"the channel became {message.channel.id}")

    with scenario.step("sends a message with files"):
        files = [
            discord.File(io.BytesIO(FILE), filename="bytes.bin", description="all bytes"),
            discord.File(io.BytesIO(b"short"), filename="short.txt"),
        ]
        sent = await channel.send("with files", files=files)
        expect(sent.id > message.id, f"id {sent.id} is not after {message.id}")
        expect([(f.filename, f.size) for f in sent.attachments] == [("bytes.bin", len(FILE)), ("short.txt", 5)],
               f"attachments became {sent.attachments}")

    with scenario.step("puts, lists and deletes reactions"):
        partial = channel.get_partial_message(message.id)
        await partial.add_reaction("👍")
        await partial.add_reaction("weir:300000000000000099")
        users = await client.http.get_reaction_users(CHANNEL, message.id, "👍", 25)
        expect(isinstance(users, list), f"the list of users became {users!r}")
        await client.http.remove_own_reaction(CHANNEL, message.id, "👍")
        await partial.clear_reactions()

    with scenario.step("reads a channel, a message, its history and a user"):
        fetched = await client.http.get_channel(CHANNEL)
        expect(int(fetched["id"]) == CHANNEL, f"the channel became {fetched}")
        expect((await channel.fetch_message(message.id)).id == message.id, "another message came back")
        async for one in channel.history(limit=2):
            expect(one.channel.id == CHANNEL, "history of another channel")
        expect((await client.fetch_user(300000000000000020)).id == 300000000000000020, "another user came back")

    with scenario.step("is told of what is not there"):
        try:
            await channel.fetch_message(UNKNOWN_MESSAGE)
        except discord.NotFound as error:
            expect(error.code == 10008, f"code {error.code}")
        else:
            raise AssertionError("an unknown message was found")

    with scenario.step("executes a webhook"):
        webhook = discord.Webhook.partial(WEBHOOK, WEBHOOK_TOKEN, client=client)
        said = await webhook.send("by webhook", wait=True)
        expect(said.content == "by webhook", f"the content became {said.content!r}")

    with scenario.step("answers an interaction"):
        interaction = discord.Interaction(data=INTERACTION_PAYLOAD, state=client._connection)
        await interaction.response.send_message("pong")
        expect(interaction.response.is_done(), "the interaction is not answered")

    with scenario.step("edits and deletes a message"):
        edited = await channel.get_partial_message(message.id).edit(content="edited")
        expect(edited.content == "edited", f"the content became {edited.content!r}")
        await channel.get_partial_message(message.id).delete()

    # Twenty clients of one bot, as if each were a process: none knows what the others have used up.
    fleet = await asyncio.gather(*(logged_in() for _ in range(BURST)))

    async def send(seq):
        return (await fleet[seq].get_partial_messageable(BURST_CHANNEL).send(f"client:burst seq:{seq}")).id

    async def own_burst():
        own = client.get_partial_messageable(OWN_BURST_CHANNEL)
        sent = await asyncio.gather(*(own.send(f"burst of one client {i}") for i in range(12)))
        expect(len({m.id for m in sent}) == 12, "a message of the client's own burst is missing")

    with scenario.step(f"{BURST} clients of one bot send at once to one channel, and one bursts in another"):
        await asyncio.gather(scenario.burst([lambda seq=seq: send(seq) for seq in range(BURST)]), own_burst())

    for one in [client, *fleet]:
        await one.close()


# What a gateway would deliver for `/ping` in a direct message.
INTERACTION_PAYLOAD = {
    "id": str(INTERACTION),
    "application_id": str(APPLICATION),
    "type": 2,
    "token": INTERACTION_TOKEN,
    "version": 1,
    "attachment_size_limit": 10_000_000,
    "user": {"id": "300000000000000020", "username": "someone", "discriminator": "0", "avatar": None},
    "data": {"id": "300000000000000021", "name": "ping", "type": 1},
}

if __name__ == "__main__":
    Scenario("discord.py", "discord.http", "discord.webhook").run(main)
