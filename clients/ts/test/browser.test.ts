// The generated client in headless Chromium, over Connect and over gRPC-Web.

import { readFile } from "node:fs/promises";
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

before(async () => {
  const bundled = await build({ entryPoints: ["src/page.ts"], bundle: true, format: "iife", write: false });
  script = bundled.outputFiles[0]!.text;
  browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ARGUMENTS });
});

after(() => browser.close());

for (const protocol of ["connect", "grpc-web"] as const) {
  test(`browser ${protocol}`, { timeout: 60_000 }, async () => {
    // Any document of the gateway's own origin will do; Chromium trusts only a really served one with local sockets.
    const page = await browser.newPage({ bypassCSP: true });
    await page.goto(`${url}/health`);
    await page.addScriptTag({ content: script });
    const bundle = [...(await readFile(environment("PORTICO_BUNDLE")))];
    const visit: Visit = { protocol, url, adminKey: environment("PORTICO_KEY"), bundle, name: `browser-${protocol}` };
    await page.evaluate((it) => window.visit(it), visit);
    await page.close();
  });
}
