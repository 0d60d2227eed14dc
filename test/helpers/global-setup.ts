import { type OwnCluster, startTestCluster } from "./cluster.ts";
import { clusterVariable } from "./database.ts";

let cluster: OwnCluster | undefined;

/** Runs once before all test files: one cluster for them all. */
export async function globalSetup(): Promise<void> {
  cluster = await startTestCluster();
  process.env[clusterVariable] = JSON.stringify(cluster);
}

/** Runs once after all test files. */
export async function globalTeardown(): Promise<void> {
  await cluster?.stop();
}
