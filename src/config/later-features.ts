import * as z from 'zod'
import { loadBalancerSchema } from '../proxy/config.ts'

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

function addressFilter(description: string) {
  return z.string().default('*').describe(description)
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

/** `modules.edgeGateway`: the way in from outside. Moves to its feature's folder when that exists. */
export const gatewayModuleSchema = z
  .strictObject({
    enable: z.boolean().default(false).describe('Listen for requests from outside the mesh.'),
    nic: addressFilter('Interfaces to listen on, separated by commas; * means all.'),
    includeIP: addressFilter('Addresses or networks to listen on, separated by commas; * means all.'),
    excludeIP: addressFilter('Addresses or networks not to listen on, separated by commas; * means none.'),
    loadBalancer: loadBalancerSchema,
  })
  .prefault({})
  .describe('The way in from outside the mesh.')
  .meta({ noEffect: 'the gateway follows in a later version' })
