import { MissingCommandError } from './errors.ts'
import { createForeignFirewalls } from './foreign-firewall.ts'
import { runNft } from './nft-ruleset-applier.ts'
import { createNodeNetwork } from './rt-node-network.ts'

/** What to remove. */
export interface CleanUpOptions {
  readonly table: string
  readonly deviceName: string
}

/**
 * Removes everything of ours from the kernel: the nftables table, the marked accepts in tables of others, the device
 * with its address and routes. Needs no running agent; doing it twice is fine. Goes on after a failure and rejects
 * at the end with all of them.
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
  // Adding first makes deleting succeed also where there is no table.
  await attempt(() => runNft(`add table ip ${table}\ndelete table ip ${table}\n`, signal))
  await attempt(() => createForeignFirewalls(table).removeAccepts(signal))
  await attempt(async () => {
    using network = await createNodeNetwork()
    await network.removeDevice(deviceName, signal)
  })
  // Without nft there is no table; its absence would be told twice.
  const told = failures.filter((failure, at) => !(failure instanceof MissingCommandError) || at === 0)
  if (told.length === 1) throw told[0]
  if (told.length > 1) throw new AggregateError(told, 'Cannot remove all of edgemesh from the kernel')
}
