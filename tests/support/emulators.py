"""Servers and emulators of the brokers that get one short test: each on free ports of this machine, always ended.

``scripts/install_conformance`` brings what the registries have; what is missing all the same is said in the table.
"""

from __future__ import annotations

import base64
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from support.ports import free_port
from support.transport_servers import Missing, running
from support.waiting import eventually

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Where ``scripts/install_conformance`` puts what is no package of the operating system's.
_SERVERS = Path(os.environ.get("CONFORMANCE_SERVERS", Path(sys.prefix) / "servers"))
_PUBSUB = Path("/usr/lib/google-cloud-sdk/platform/pubsub-emulator/bin/cloud-pubsub-emulator")
#: Account and key that Azurite lets in.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = base64.b64encode(b"a key of the conformance suite, 64 bytes long when it is padded.").decode()


def _program(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise Missing(f"no {name}; apt-get install {package}")
    return found


def _library(name: str, package: str) -> None:
    if importlib.util.find_spec(name) is None:
        raise Missing(f"no {package}; pip install {package}")


def _jars(name: str) -> str:
    """Return the class path of a Java server that was fetched."""
    folder = _SERVERS / name
    if not any(folder.glob("*.jar")):
        raise Missing(f"no jars in {folder.name}; scripts/install_conformance fetches them where there is Maven")
    return f"{folder}/*"


@contextmanager
def zookeeper() -> Iterator[int]:
    """Run a private ZooKeeper; gives its port."""
    _library("kazoo", "kazoo")
    java, jars, port = _program("java", "default-jre-headless"), _jars("zookeeper"), free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "zoo.cfg"
        settings.write_text(
            f"dataDir={folder}/data\nclientPort={port}\nclientPortAddress=127.0.0.1\nadmin.enableServer=false\n"
            "tickTime=2000\nmaxClientCnxns=0\n"
        )
        command = [java, "-Xmx256m", "-cp", jars, "org.apache.zookeeper.server.ZooKeeperServerMain", str(settings)]
        with running(command, port, directory=folder):
            yield port


@contextmanager
def azurite() -> Iterator[int]:
    """Run a private Azurite, Microsoft's emulator of Azure Storage; gives the port of its queues."""
    _library("azure.storage.queue" if importlib.util.find_spec("azure") else "azure", "azure-storage-queue")
    node, port = _program("node", "nodejs"), free_port()
    program = _SERVERS / "azurite" / "node_modules" / "azurite" / "dist" / "src" / "queue" / "main.js"
    if not program.exists():
        raise Missing("no Azurite; scripts/install_conformance fetches it where there is npm")
    with tempfile.TemporaryDirectory() as folder:
        command = [
            node, str(program), "--queueHost", "127.0.0.1", "--queuePort", str(port), "--location", folder,
            "--skipApiVersionCheck", "--disableTelemetry",
        ]  # fmt: skip
        accounts = {"AZURITE_ACCOUNTS": f"{AZURITE_ACCOUNT}:{AZURITE_KEY}"}
        with running(command, port, directory=folder, environment=accounts):
            yield port


@contextmanager
def pubsub() -> Iterator[int]:
    """Run a private emulator of Google Pub/Sub; gives its port."""
    _library("google.cloud.pubsub_v1" if importlib.util.find_spec("google") else "google", "google-cloud-pubsub")
    _program("java", "default-jre-headless")
    if not _PUBSUB.exists():
        raise Missing("no emulator: Google's packages, which hold it, are in no registry of the tests")
    port = free_port()
    with (
        tempfile.TemporaryDirectory() as folder,
        running([str(_PUBSUB), "--host=127.0.0.1", f"--port={port}"], port, directory=folder),
    ):
        yield port


@contextmanager
def mongodb() -> Iterator[int]:
    """Run mongo-java-server, which speaks MongoDB's protocol; gives its port."""
    _library("pymongo", "pymongo")
    java, jars, port = _program("java", "default-jre-headless"), _jars("mongodb"), free_port()
    with tempfile.TemporaryDirectory() as folder:
        program = Path(__file__).with_name("ServeMongo.java")
        command = [java, "-Xmx256m", "-cp", jars, str(program), str(port)]
        with running(command, port, directory=folder):
            yield port


@contextmanager
def kafka() -> Iterator[int]:
    """Run a private Kafka of one node; gives its port."""
    _library("confluent_kafka", "confluent-kafka")
    java, jars = _program("java", "default-jre-headless"), _jars("kafka")
    port, controller = free_port(), free_port()
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "server.properties"
        settings.write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.voters=1@127.0.0.1:{controller}\n"
            f"listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{port}\ncontroller.listener.names=CONTROLLER\n"
            f"log.dirs={folder}/logs\noffsets.topic.replication.factor=1\noffsets.topic.num.partitions=1\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\n"
        )
        in_folder = [java, "-Xmx512m", "-cp", jars]
        form = [*in_folder, "kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qk", "-c", str(settings)]
        subprocess.run(form, check=True, stdout=subprocess.DEVNULL, cwd=folder)
        with running([*in_folder, "kafka.Kafka", str(settings)], port, directory=folder):
            yield port


@contextmanager
def consul() -> Iterator[int]:
    """Run a private Consul of one node, its data in memory; gives the port of its HTTP interface."""
    _library("consul", "python-consul2")
    program = _SERVERS / "consul" / "root" / "usr" / "bin" / "consul"
    if not program.exists():
        raise Missing("no Consul; scripts/install_conformance fetches it where there is apt-get")
    port = free_port()
    inner = {name: free_port() for name in ("serf-lan-port", "serf-wan-port", "server-port")}
    command = [
        str(program), "agent", "-dev", "-bind=127.0.0.1", "-client=127.0.0.1", "-node=conformance", "-log-level=err",
        f"-http-port={port}", "-dns-port=-1", "-grpc-port=-1", *(f"-{name}={value}" for name, value in inner.items()),
    ]  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, running(command, port, directory=folder):
        eventually(lambda: _has_leader(port), deadline_s=90.0, what="Consul has a leader")
        yield port


def _has_leader(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/status/leader", timeout=20) as answer:
            return answer.read().strip() not in (b"", b'""')
    except OSError:
        return False


@contextmanager
def pyro() -> Iterator[int]:
    """Run Pyro's name server and kombu's broker on it; gives the name server's port."""
    _library("Pyro4", "pyro4")
    port = free_port()
    names = {"PYRO_NS_HOST": "127.0.0.1", "PYRO_NS_PORT": str(port)}
    with (
        tempfile.TemporaryDirectory() as folder,
        running(
            [sys.executable, "-m", "Pyro4.naming", "-x", "-n", "127.0.0.1", "-p", str(port)], port, directory=folder
        ),
        # It tells the name server which port it took.
        running([sys.executable, "-m", "kombu.transport.pyro"], port, directory=folder, environment=names),
    ):
        eventually(lambda: _is_registered(port), deadline_s=90.0, what="kombu's broker has told its name")
        yield port


def _is_registered(port: int) -> bool:
    listed = subprocess.run(
        [sys.executable, "-m", "Pyro4.nsc", "-n", "127.0.0.1", "-p", str(port), "list"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "kombu.broker" in listed.stdout
