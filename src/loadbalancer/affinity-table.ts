/** Remembers which backend a client had, for a while after its last connection. */
export interface AffinityTable {
  /** The id of the client's backend; undefined when there is none or its time is over. */
  find(client: string): string | undefined
  /** Sets the client's backend and begins its time anew. */
  remember(client: string, backendId: string): void
}

/** How many clients one table holds; beyond that those that have been away longest are forgotten. */
export const mostClients = 65_536

/** Makes an empty table. */
export function createAffinityTable(timeoutMs: number, nowMs: () => number): AffinityTable {
  /** In the order of their last connections, so that the first one is over first. */
  const clients = new Map<string, { readonly backendId: string; readonly untilMs: number }>()
  const forgetOld = () => {
    const now = nowMs()
    for (const [client, { untilMs }] of clients) {
      if (untilMs > now && clients.size <= mostClients) return
      clients.delete(client)
    }
  }
  return {
    find(client) {
      const known = clients.get(client)
      return known !== undefined && known.untilMs > nowMs() ? known.backendId : undefined
    },
    remember(client, backendId) {
      clients.delete(client)
      clients.set(client, { backendId, untilMs: nowMs() + timeoutMs })
      forgetOld()
    },
  }
}
