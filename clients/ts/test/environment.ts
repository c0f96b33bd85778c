/** Reads what clients/run.sh tells the tests. */
export function environment(name: string): string {
  const value = process.env[name];
  if (!value) throw new Error(`${name} is not set: start the tests through clients/run.sh`);
  return value;
}
