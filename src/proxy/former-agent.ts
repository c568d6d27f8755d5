import type { Kernel } from '../linux/index.ts'
import type { Logger } from '../observability/index.ts'

/**
 * Removes chains that an agent of the Go system left on this node, and says so; or why they may still be there, which
 * keeps nobody from serving.
 */
export async function sweepFormerAgent(
  kernel: Pick<Kernel, 'sweepPortalChains'>,
  { bridgeDeviceIP, logger }: { readonly bridgeDeviceIP: string; readonly logger: Logger },
  signal: AbortSignal,
): Promise<void> {
  try {
    const swept = await kernel.sweepPortalChains(bridgeDeviceIP, signal)
    if (swept.length > 0)
      logger.info({ reason: swept.join(', ') }, 'removed chains that an agent of the Go system left')
  } catch (error) {
    signal.throwIfAborted()
    logger.warn({ error }, 'chains that an agent of the Go system left may still be there')
  }
}
