// The generated client in Node, over each protocol and both versions of HTTP.

import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { createClient, type Transport } from "@connectrpc/connect";
import { createConnectTransport, createGrpcTransport, createGrpcWebTransport } from "@connectrpc/connect-node";
import { AgentService } from "../gen/podium/v1/agent_pb.js";
import { DeploymentsService } from "../gen/podium/v1/deployments_pb.js";
import { bearer, isComplete, walk, type Door } from "../src/walk.js";
import { environment } from "./environment.js";

/** Small, so that even the echo bundle travels in several messages. */
const CHUNK_BYTES = 256;

const baseUrl = environment("PORTICO_URL");

type Open = (key: string) => Transport;
const transports: Record<string, Open> = {
  "connect-http1": (key) => createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors: bearer(key) }),
  "connect-json-http2": (key) =>
    createConnectTransport({ baseUrl, httpVersion: "2", useBinaryFormat: false, interceptors: bearer(key) }),
  grpc: (key) => createGrpcTransport({ baseUrl, interceptors: bearer(key) }),
  "grpc-web-http1": (key) => createGrpcWebTransport({ baseUrl, httpVersion: "1.1", interceptors: bearer(key) }),
};

for (const [name, open] of Object.entries(transports)) {
  const door: Door = { name, open, upload: (key, version) => upload(open(key), version) };
  if (!name.endsWith("http1")) door.talk = (key, instanceId, command) => talk(open(key), instanceId, command);
  test(name, { timeout: 60_000 }, () => walk(door, environment("PORTICO_KEY")));
}

async function upload(transport: Transport, version: string): Promise<string> {
  const bundle = await readFile(environment("PORTICO_BUNDLE"));
  async function* messages() {
    yield { agentType: "echo", version };
    for (let start = 0; start < bundle.length; start += CHUNK_BYTES) {
      yield { file: new Uint8Array(bundle.subarray(start, start + CHUNK_BYTES)) };
    }
  }
  return (await createClient(DeploymentsService, transport).uploadDeployment(messages())).deploymentId;
}

async function talk(transport: Transport, instanceId: string, command: string): Promise<string[]> {
  let hangUp = () => {};
  const complete = new Promise<void>((resolve) => (hangUp = resolve));
  async function* messages() {
    yield { instanceId, frame: { case: "text" as const, value: command } };
    await complete;
  }
  const frames: string[] = [];
  for await (const { frame } of createClient(AgentService, transport).attach(messages())) {
    if (frame.case !== "text") continue;
    frames.push(frame.value);
    if (isComplete(frame.value)) hangUp();
  }
  return frames;
}
