import type Dockerode from "dockerode";
import { installationLabel } from "./labels.ts";

const unusedMs = 15_000;

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
    /** Removes those of tenants that have no container, but for young ones, whose first may be on its way. */
    async removeUnused(tenantsInUse: ReadonlySet<string>): Promise<void> {
      const filters = { label: [`${installationLabel}=${installation}`] };
      for (const { Id, Labels, Created } of await docker.listNetworks({ filters })) {
        const tenantId = Labels?.["io.pulsewire.tenant"] ?? "";
        if (tenantsInUse.has(tenantId) || Date.now() - Date.parse(Created ?? "") < unusedMs) continue;
        known.delete(tenantId);
        await docker
          .getNetwork(Id)
          .remove()
          .catch((error: { statusCode?: number }) => {
            // 403: a container has joined meanwhile. 404: gone.
            if (error.statusCode !== 403 && error.statusCode !== 404) throw error;
          });
      }
    },
  };
}
