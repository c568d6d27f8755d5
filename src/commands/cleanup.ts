import { openConfig } from '../config/index.ts'
import { chainPrefix, cleanUp } from '../linux/index.ts'
import { tableName } from '../proxy/index.ts'
import type { CommandContext, CommandInput } from './command.ts'

const defaultDeviceName = 'edgemesh0'

/** Removes everything of ours from the kernel; needs no agent and no configuration. */
export async function run({ options }: CommandInput, context: CommandContext): Promise<number> {
  const file = options['config']
  const deviceName =
    typeof file === 'string'
      ? openConfig('agent', file, context.env).config.commonConfig.bridgeDeviceName
      : defaultDeviceName
  await cleanUp({ table: tableName, deviceName }, AbortSignal.any([context.signal, AbortSignal.timeout(30_000)]))
  context.out(
    `removed: nftables table ${tableName}, chains ${chainPrefix}* of iptables, device ${deviceName} with its routes, routes through neighbours, accepts in other firewalls\n`,
  )
  return 0
}
