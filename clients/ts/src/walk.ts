// What a newcomer would do with the platform, written once for every protocol that connect-es speaks, in Node and in a
// browser. Only uploading and talking differ: a browser cannot stream requests.

import { Code, ConnectError, createClient, type Interceptor, type Transport } from "@connectrpc/connect";
import { HealthService } from "../gen/podium/v1/health_pb.js";
import { InstancesService } from "../gen/podium/v1/instances_pb.js";
import { KeysService } from "../gen/podium/v1/keys_pb.js";

/** The platform as seen through one protocol. */
export interface Door {
  name: string;
  /** Opens it with a key; with none when the key is empty. */
  open(key: string): Transport;
  /** Uploads the echo bundle and returns the deployment's id. */
  upload(key: string, version: string): Promise<string>;
  /** Sends one command to an instance and returns the frames of its answer. Absent where a protocol has no full duplex. */
  talk?(key: string, instanceId: string, command: string): Promise<string[]>;
}

/** Walks through a door; rejects with what went wrong. */
export async function walk(door: Door, adminKey: string): Promise<void> {
  const tenantId = `ts-${door.name}`;
  const admin = createClient(KeysService, door.open(adminKey));

  const health = await createClient(HealthService, door.open("")).getHealth({});
  check(health.status !== "", "health has no status");
  await refused(createClient(KeysService, door.open("")).listKeys({}), Code.Unauthenticated);
  await refused(createClient(KeysService, door.open("pod_nobody")).listKeys({}), Code.Unauthenticated);

  const { key, keyId } = await admin.createKey({ tenantId, name: "walk" });
  const { keys } = await admin.listKeys({ tenantId });
  check(keys[0]?.keyId === keyId, "the new key is not the first of the list");
  await refused(createClient(KeysService, door.open(key)).listKeys({}), Code.PermissionDenied);

  const deploymentId = await door.upload(adminKey, `1.0.0-${tenantId}`);
  check(deploymentId.startsWith(`echo:1.0.0-${tenantId}@`), `unexpected deployment id ${deploymentId}`);

  const instances = createClient(InstancesService, door.open(key));
  const { instanceId } = await instances.createInstance({ deploymentId });
  if (door.talk) {
    const command = { type: "process_message", content: { text: "hello from TypeScript", messages: [] } };
    const frames = await door.talk(key, instanceId, JSON.stringify(command));
    check(frames.join("").includes("hello"), `the echo agent did not echo: ${frames.join("\n")}`);
  }
  let first = 0n;
  for await (const { sequence } of instances.followLogs({ instanceId })) {
    first = sequence;
    break; // hanging up in the middle of a stream is part of the walk
  }
  check(first >= 1n, "the log has no first entry");

  await instances.deleteInstance({ instanceId });
  await admin.revokeKey({ keyId });
  await refused(instances.getInstance({ instanceId }), Code.Unauthenticated);
}

/** Attaches a key to every call. */
export function bearer(key: string): Interceptor[] {
  if (key === "") return [];
  return [
    (next) => (request) => {
      request.header.set("Authorization", `Bearer ${key}`);
      return next(request);
    },
  ];
}

/** Tells whether a frame ends the agent's turn. */
export function isComplete(frame: string): boolean {
  return JSON.parse(frame).type === "complete";
}

async function refused(call: Promise<unknown>, code: Code): Promise<void> {
  const error = await call.then(
    () => undefined,
    (reason: unknown) => ConnectError.from(reason),
  );
  check(error?.code === code, `expected ${Code[code]}, got ${error ?? "an answer"}`);
}

function check(holds: boolean, message: string): asserts holds {
  if (!holds) throw new Error(message);
}
