// What runs inside the browser: the walk over fetch, with an HTML form's upload and the browser's own WebSocket.

import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { bearer, isComplete, walk, type Door } from "./walk.js";

/** What the test hands over to the page. */
export interface Visit {
  protocol: "connect" | "grpc-web";
  url: string;
  adminKey: string;
  bundle: number[];
  name: string;
}

declare global {
  interface Window {
    visit(visit: Visit): Promise<void>;
  }
}

window.visit = ({ protocol, url, adminKey, bundle, name }) => {
  const createTransport = protocol === "connect" ? createConnectTransport : createGrpcWebTransport;
  const door: Door = {
    name,
    open: (key) => createTransport({ baseUrl: url, interceptors: bearer(key) }),
    upload: async (key, version) => {
      const form = new FormData();
      form.set("file", new Blob([new Uint8Array(bundle)]), "echo.tar.gz");
      form.set("agent_type", "echo");
      form.set("version", version);
      const response = await fetch(`${url}/api/v1/deployments`, {
        method: "POST",
        headers: { Authorization: `Bearer ${key}` },
        body: form,
      });
      const answer = await response.json();
      if (!response.ok) throw new Error(`the upload was refused: ${JSON.stringify(answer)}`);
      return answer.deployment_id;
    },
    talk: (key, instanceId, command) => {
      // A browser cannot set headers on a WebSocket: the key travels as a subprotocol.
      const address = `${url.replace("http", "ws")}/agent/${instanceId}`;
      const socket = new WebSocket(address, ["podium.native.v1", `bearer.${key}`]);
      const frames: string[] = [];
      return new Promise((resolve, reject) => {
        socket.onopen = () => socket.send(command);
        socket.onclose = (event) => reject(new Error(`the socket closed: ${event.code} ${event.reason}`));
        socket.onmessage = ({ data }) => {
          frames.push(data);
          if (!isComplete(data)) return;
          socket.onclose = null;
          socket.close(1000);
          resolve(frames);
        };
      });
    },
  };
  return walk(door, adminKey);
};
