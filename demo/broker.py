"""The demo's MQTT broker: amqtt on a loopback address, for the demo and tests only.

amqtt forgets everything when it is killed and speaks MQTT 3.1.1 only; real counties run mosquitto (see ``deploy/``).
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal

import click
from amqtt.broker import Broker
from amqtt.contexts import BrokerConfig, ListenerConfig


def broker_config(host: str, port: int) -> BrokerConfig:
    """Return a configuration without authentication; raise ValueError unless ``host`` is a loopback address."""
    if not ipaddress.ip_address(host).is_loopback:
        raise ValueError(f"{host} is no loopback address: the demo broker lets everybody in")
    return BrokerConfig(
        listeners={"default": ListenerConfig(bind=f"{host}:{port}")},
        plugins={"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
    )


async def run(host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    broker = Broker(broker_config(host, port))
    await broker.start()
    click.echo(f"broker ready on {host}:{port}")
    await stop.wait()
    await broker.shutdown()


@click.command()
@click.option(
    "--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on."
)
@click.option("--port", type=click.IntRange(1, 65535), required=True, help="TCP port.")
def main(host: str, port: int) -> None:
    """Run the demo broker."""
    logging.basicConfig(
        level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    asyncio.run(run(host, port))


if __name__ == "__main__":
    main()
