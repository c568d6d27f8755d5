import * as z from 'zod'
import { dnsSchema } from '../dns/config.ts'
import { kubeSchema } from '../kube/config.ts'
import { commonSchema } from '../linux/config.ts'
import { proxySchema } from '../proxy/config.ts'
import { tunnelSchemaOf } from '../tunnel/config.ts'

/** The long-running commands, each with a configuration of its own. */
export type Role = 'agent' | 'server' | 'gateway'

function nodeFieldsOf(role: Role) {
  return {
    nodeName: z.string().default('').describe('Name of this node; else env NODE_NAME, else the host name.'),
    stateDir: z
      .string()
      .default(`/var/lib/edgemesh/${role}`)
      .describe('Folder for the identity key and what survives a restart.'),
    runtimeDir: z.string().default(`/run/edgemesh/${role}`).describe('Folder for the control socket.'),
    logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('Least severe log lines written.'),
  }
}

/** The document of `edgemesh agent`. */
export const agentSchema = z.strictObject({
  apiVersion: z
    .literal('agent.edgemesh.config.kubeedge.io/v1alpha1')
    .default('agent.edgemesh.config.kubeedge.io/v1alpha1'),
  kind: z.literal('EdgeMeshAgent').default('EdgeMeshAgent'),
  ...nodeFieldsOf('agent'),
  kubeAPIConfig: kubeSchema.prefault({}),
  commonConfig: commonSchema.prefault({}),
  modules: z
    .strictObject({
      edgeDNS: dnsSchema.prefault({}),
      edgeProxy: proxySchema.prefault({}),
      edgeTunnel: tunnelSchemaOf(20006).prefault({}),
    })
    .prefault({}),
})

/** The document of `edgemesh server`. */
export const serverSchema = z.strictObject({
  apiVersion: z
    .literal('server.edgemesh.config.kubeedge.io/v1alpha1')
    .default('server.edgemesh.config.kubeedge.io/v1alpha1'),
  kind: z.literal('EdgeMeshServer').default('EdgeMeshServer'),
  ...nodeFieldsOf('server'),
  modules: z.strictObject({ edgeTunnel: tunnelSchemaOf(20004).prefault({}) }).prefault({}),
})

/** Validated document of `edgemesh agent`. */
export type AgentConfig = z.output<typeof agentSchema>

/** Validated document of `edgemesh server`. */
export type ServerConfig = z.output<typeof serverSchema>
