"""An agent that does what a message tells it to: the behaviours that a host must cope with."""

import base64
import json
import os
import signal
import socket
import struct
import sys
import time

link = socket.socket(socket.AF_UNIX)
link.connect(os.environ["AGENT_SOCKET"])


def say(kind, **content):
    body = json.dumps({"type": kind, "content": content}).encode()
    link.sendall(struct.pack(">I", len(body)) + body)


def exactly(length):
    data = bytearray()
    while len(data) < length:
        chunk = link.recv(min(length - len(data), 1 << 20))
        if not chunk:
            sys.exit(0)
        data += chunk
    return data


def hear():
    packet = json.loads(exactly(struct.unpack(">I", exactly(4))[0]))
    return packet["type"], packet.get("content") or {}


def obey(message):
    text, message_id = message["text"], message["message_id"]
    word, _, rest = text.partition(" ")
    if word == "crash":
        print("about to crash", file=sys.stderr, flush=True)
        os._exit(3)
    if word == "leave":
        sys.exit(0)
    if word == "environment":
        say("complete", message_id=message_id, text=json.dumps(dict(os.environ)))
    elif word == "init":
        say("complete", message_id=message_id, text=json.dumps(init))
    elif word == "limits":
        import resource

        limits = {name: getattr(resource, "RLIMIT_" + name) for name in ("AS", "CPU", "NOFILE", "FSIZE")}
        limits = {name: resource.getrlimit(limit)[0] for name, limit in limits.items()}
        say("complete", message_id=message_id, text=json.dumps(limits))
    elif word == "descriptors":
        places = []
        for number in os.listdir("/proc/self/fd"):
            try:
                places.append(os.readlink("/proc/self/fd/" + number))
            except FileNotFoundError:
                pass  # The folder that was listed.
        say("complete", message_id=message_id, text=json.dumps(places))
    elif word == "spin":
        while True:
            pass
    elif word == "daemon":
        child = os.fork()
        if child == 0:
            os.setsid()
            if os.fork() == 0:
                time.sleep(600)
            time.sleep(600)
        say("complete", message_id=message_id, text=str(child))
    elif word == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            time.sleep(600)
        say("complete", message_id=message_id, text=str(os.getpid()))
        time.sleep(600)
    elif word == "many":
        for number in range(int(rest)):
            say("stream_update", message_id=message_id, content={"text": str(number)})
        say("complete", message_id=message_id, text=rest)
    elif word == "tool":
        say("stream_update", message_id=message_id, event_type="tool.call_start", content={"tool_name": rest})
        say("complete", message_id=message_id, text="")
    elif word == "huge":
        say("binary", data=base64.b64encode(bytes(int(rest))).decode())
        say("complete", message_id=message_id, text="x" * int(rest))
    elif word == "write":
        with open(os.path.join(os.environ["AGENT_WORKSPACE"], "note.txt"), "w") as note:
            note.write(rest)
        say("complete", message_id=message_id, text="")
    else:
        say("log", level="info", message="echoing")
        print("on standard output", flush=True)
        for part in text.split(" "):
            say("stream_update", message_id=message_id, content={"text": part})
        say("complete", message_id=message_id, text=text)


kind, init = hear()
assert kind == "init"
say("ready")
while True:
    kind, content = hear()
    if kind == "message":
        obey(content)
    elif kind == "binary":
        say("binary", data=base64.b64encode(base64.b64decode(content["data"])[::-1]).decode())
    elif kind == "shutdown":
        say("log", level="info", message="goodbye")
        sys.exit(0)
