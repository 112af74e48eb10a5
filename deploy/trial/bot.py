"""A bot's REST half, pointed at weir."""

import asyncio
import os

import discord

discord.http.Route.BASE = "http://localhost:8080/api/v10"


async def main():
    async with discord.Client(intents=discord.Intents.none()) as client:
        await client.login(os.environ["BOT_TOKEN"])
        print("logged in as", client.user)
        channel = client.get_partial_messageable(203039963636301824)
        message = await channel.send("hello through weir")
        print("sent", message.id, repr(message.content))
        print("read", (await channel.fetch_message(message.id)).id)


asyncio.run(main())
