import * as z from 'zod'

const networkListSchema = z
  .array(
    z
      .string()
      .refine((text) => z.cidrv4().safeParse(text).success || z.cidrv6().safeParse(text).success)
      .meta({ expects: 'a network with its prefix', examples: ['10.244.0.0/16'] }),
  )
  .default([])

function goInternal(reason: string) {
  return z.unknown().optional().describe('Internal value of the Go system.').meta({ ignored: reason })
}

/** `modules.edgeCNI`: the pod network over the tunnel. Moves to its feature's folder when that exists. */
export const cniSchema = z
  .strictObject({
    enable: z.boolean().default(false).describe('Carry packets between pods through the tunnel.'),
    meshCIDRConfig: z
      .strictObject({
        cloudCIDR: networkListSchema.describe('Pod networks in the cloud.'),
        edgeCIDR: networkListSchema.describe('Pod networks at the edge.'),
      })
      .prefault({})
      .describe('Networks that are reached through the tunnel.'),
    encapsulationIP: goInternal('the Go system does not use it either'),
    tunMode: goInternal('the Go system does not use it either'),
  })
  .prefault({})
  .describe('The pod network over the tunnel.')
  .meta({ noEffect: 'the pod network follows in a later version' })
