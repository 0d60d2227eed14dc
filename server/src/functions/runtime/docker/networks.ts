import type Dockerode from "dockerode";
import { installationLabel } from "./labels.ts";

/** The networks of tenants: containers of one tenant reach each other and no other's. */
export function createNetworks(docker: Dockerode, mode: string, installation: string) {
  const known = new Map<string, Promise<string>>();

  const ensure = async (tenantId: string): Promise<string> => {
    const name = `pulsewire-${installation}-${tenantId}`;
    const [found] = await docker.listNetworks({ filters: { name: [name] } });
    if (found) return name;
    await docker
      .createNetwork({
        Name: name,
        CheckDuplicate: true,
        Labels: { [installationLabel]: installation, "io.pulsewire.tenant": tenantId },
      })
      .catch((error: { statusCode?: number }) => {
        if (error.statusCode !== 409) throw error;
      });
    return name;
  };

  return {
    /** What a container of the tenant is connected to. */
    of(tenantId: string): Promise<string> {
      if (mode !== "tenant") return Promise.resolve(mode);
      const found = known.get(tenantId) ?? ensure(tenantId);
      known.set(tenantId, found);
      found.catch(() => known.delete(tenantId));
      return found;
    },
    forget(tenantId: string): void {
      known.delete(tenantId);
    },
  };
}
