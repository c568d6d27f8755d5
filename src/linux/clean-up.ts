import type { NetlinkSocket } from 'netlink'
import { NetlinkError, NotPermittedError } from './errors.ts'
import { createForeignFirewalls } from './foreign-firewall.ts'
import { findIptables, type IptablesKind, removeOwnChains } from './iptables.ts'
import { encodeAttribute, openNetfilterSocket, requestOptions } from './netlink.ts'
import { runNft } from './nft-ruleset-applier.ts'
import { createNodeNetwork } from './rt-node-network.ts'

/** What to remove. */
export interface CleanUpOptions {
  readonly table: string
  readonly deviceName: string
}

/** A way to make rules. */
export type RulesKind = 'nftables' | IptablesKind

/**
 * Removes everything of ours from the kernel: the nftables table, the chains of iptables, the marked accepts in tables
 * of others, routes through neighbours, the device with its address and routes. Needs no running agent; doing it twice
 * is fine. Goes on after a failure and rejects at the end with all of them.
 */
export async function cleanUp({ table, deviceName }: CleanUpOptions, signal: AbortSignal): Promise<void> {
  const failures: unknown[] = []
  const attempt = async (run: () => Promise<void>) => {
    try {
      await run()
    } catch (error) {
      failures.push(error)
    }
  }
  await attempt(() => removeTable(table, signal))
  await attempt(async () => {
    for (const iptables of await findIptables(signal)) {
      await attempt(async () => void (await removeOwnChains(iptables, signal)))
    }
  })
  await attempt(() => createForeignFirewalls(table).removeAccepts(signal))
  await attempt(async () => {
    using network = await createNodeNetwork()
    const failures = await network.setNeighbourRoutes([], signal)
    await network.removeDevice(deviceName, signal)
    if (failures[0] !== undefined) throw failures[0].error
  })
  if (failures.length === 1) throw failures[0]
  if (failures.length > 1) throw new AggregateError(failures, 'Cannot remove all of edgemesh from the kernel')
}

/** Removes our rules of all other kinds, and returns what was removed; for when those of this kind stand. */
export async function removeRulesBut(kind: RulesKind, table: string, signal: AbortSignal): Promise<string[]> {
  const removed: string[] = []
  if (kind !== 'nftables' && (await hasTable(table))) {
    await runNft(`delete table ip ${table}\n`, signal)
    removed.push(`nftables table ${table}`)
  }
  for (const iptables of await findIptables(signal)) {
    if (iptables.kind !== kind && (await removeOwnChains(iptables, signal)))
      removed.push(`chains of ${iptables.version}`)
  }
  return removed
}

async function removeTable(table: string, signal: AbortSignal): Promise<void> {
  try {
    // Adding first makes deleting succeed also where there is no table.
    await runNft(`add table ip ${table}\ndelete table ip ${table}\n`, signal)
  } catch (error) {
    // nft may be missing, or the kernel have nothing of it; then there is no table.
    if (error instanceof NotPermittedError || (await hasTable(table))) throw error
  }
}

/** The message type of nfnetlink that asks for a table of nftables. */
const getTable = (10 << 8) | 1
const familyIpv4 = 2
const tableName = 1

/** Asks the kernel itself: nft may be missing. */
async function hasTable(table: string): Promise<boolean> {
  using netlink = await openNetfilterSocket()
  const name = encodeAttribute(tableName, Buffer.from(`${table}\0`))
  const data = Buffer.concat([Buffer.from([familyIpv4, 0, 0, 0]), name])
  try {
    await netlink.ask<unknown>('read an nftables table', (socket: NetlinkSocket) =>
      socket.request(getTable, data, requestOptions),
    )
    return true
  } catch (error) {
    // A kernel without nftables answers with another error than one without the table.
    if (error instanceof NetlinkError) return false
    throw error
  }
}
