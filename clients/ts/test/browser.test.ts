// The generated client in headless Chromium, over Connect and over gRPC-Web, from two origins: the second needs CORS.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { build } from "esbuild";
import { chromium, type Browser } from "playwright-core";
import type { Visit } from "../src/page.js";
import { environment } from "./environment.js";

const url = environment("PORTICO_URL");

// Beside --no-sandbox, which root needs: nothing here may look for other hosts than the gateway.
const ARGUMENTS = [
  "--no-sandbox",
  "--disable-gpu",
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

let browser: Browser;
let script: string;
let neighbour: Server;

before(async () => {
  const bundled = await build({ entryPoints: ["src/page.ts"], bundle: true, format: "iife", write: false });
  script = bundled.outputFiles[0]!.text;
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGUMENTS });
  neighbour = createServer((_, response) => response.end()).listen(0, "127.0.0.1");
  await once(neighbour, "listening");
});

after(async () => {
  await browser.close();
  neighbour.close();
});

// Any document of an origin will do to call from, as long as it is really served: Chromium lets no other near local sockets.
const origins = {
  "its own origin": () => `${url}/health`,
  "another origin": () => `http://127.0.0.1:${(neighbour.address() as AddressInfo).port}/`,
};

for (const protocol of ["connect", "grpc-web"] as const) {
  for (const [origin, address] of Object.entries(origins)) {
    test(`${protocol} in a browser, from ${origin}`, { timeout: 60_000 }, async () => {
      const page = await browser.newPage({ bypassCSP: true });
      await page.goto(address());
      await page.addScriptTag({ content: script });
      const bundle = [...(await readFile(environment("PORTICO_BUNDLE")))];
      const name = `browser-${protocol}-${origin.replaceAll(" ", "-")}`;
      const visit: Visit = { protocol, url, adminKey: environment("PORTICO_KEY"), bundle, name };
      await page.evaluate((it) => window.visit(it), visit);
      await page.close();
    });
  }
}
