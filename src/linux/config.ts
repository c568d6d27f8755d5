import * as z from 'zod'

/** `commonConfig`: what the node's own device is called and which address it holds. */
export const commonSchema = z.strictObject({
  bridgeDeviceName: z
    .string()
    .regex(/^[A-Za-z0-9_.-]{1,15}$/, 'a device name of 1 to 15 letters, digits, ".", "_" or "-"')
    .default('edgemesh0')
    .describe('Name of the device that holds the bridge address.'),
  bridgeDeviceIP: z
    .ipv4()
    .default('169.254.96.16')
    .describe('Address of cluster DNS and of the SOCKS5 entry on every node.'),
  pprofConfig: z
    .strictObject({
      enableProfiling: z.boolean().default(false).describe('Accepted for compatibility.'),
      profilingAddress: z.string().default('').describe('Accepted for compatibility.'),
      profilingPort: z.int().min(0).max(65535).default(0).describe('Accepted for compatibility.'),
    })
    .prefault({}),
})

/** Validated `commonConfig`. */
export type CommonConfig = z.output<typeof commonSchema>
