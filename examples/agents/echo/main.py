"""An agent that says what it hears, word by word. It shows the whole life of an agent in one page.

The host starts this program and talks to it over the Unix socket named by AGENT_SOCKET. A packet is four bytes of
length, big-endian, and that many bytes of JSON: {"type": ..., "content": {...}}.
"""

import json
import os
import socket
import struct


def connect():
    """Connects to the host."""
    host = socket.socket(socket.AF_UNIX)
    host.connect(os.environ["AGENT_SOCKET"])
    return host, host.makefile("rb")


def send(host, kind, **content):
    """Sends one packet."""
    body = json.dumps({"type": kind, "content": content}).encode()
    host.sendall(struct.pack(">I", len(body)) + body)


def packets(source):
    """Yields packets until the host hangs up."""
    while head := source.read(4):
        packet = json.loads(source.read(struct.unpack(">I", head)[0]))
        yield packet["type"], packet.get("content") or {}


def main():
    host, source = connect()
    for kind, content in packets(source):
        if kind == "init":
            send(host, "log", level="info", message=f"{content['agent_id']} is here")
            send(host, "ready")
        elif kind == "message":
            message_id, text = content["message_id"], content["text"]
            # The host has told the client that its message is `created`. A word each is an update.
            for word in text.split(" ") if text else []:
                send(host, "stream_update", message_id=message_id, content={"text": word + " "})
            send(host, "complete", message_id=message_id, text=text)
        elif kind == "binary":
            send(host, "binary", data=content["data"])
        elif kind == "shutdown":
            send(host, "log", level="info", message="goodbye")
            return
        else:
            send(host, "log", level="info", message=f"got {kind}")


if __name__ == "__main__":
    main()
