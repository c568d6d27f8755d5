import * as z from 'zod'

/** `pprofConfig`: the Go system's profiler, accepted so that its documents parse. */
export const pprofSchema = z
  .strictObject({
    enableProfiling: z.boolean().default(false).describe('Serve the Go profiler.'),
    profilingAddress: z.string().default('').describe('Address of the profiler.'),
    profilingPort: z.int().min(0).max(65535).default(0).describe('TCP port of the profiler.'),
  })
  .prefault({})
  .describe("The Go system's profiler.")
  .meta({ ignored: 'this program has no Go profiler' })

/** `commonConfig`: what the node's own device is called and which address it holds. */
export const commonSchema = z.strictObject({
  bridgeDeviceName: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{1,15}$/)
    .default('edgemesh0')
    .describe('Name of the device that holds the bridge address.')
    .meta({ expects: 'a device name of 1 to 15 letters, digits, ".", "_" or "-"' }),
  bridgeDeviceIP: z
    .ipv4()
    .default('169.254.96.16')
    .describe('Address of cluster DNS and of the SOCKS5 entry on every node.'),
  pprofConfig: pprofSchema,
})

/** Validated `commonConfig`. */
export type CommonConfig = z.output<typeof commonSchema>
