import * as z from 'zod'
import { dnsSchema } from '../dns/config.ts'
import { gatewayModuleSchema } from '../gateway/config.ts'
import { kubeSchema } from '../kube/config.ts'
import { commonSchema, pprofSchema } from '../linux/config.ts'
import { proxySchema } from '../proxy/config.ts'
import { tunnelSchemaOf } from '../tunnel/config.ts'
import { cniSchema } from './later-features.ts'

/** The long-running commands, each with a configuration of its own. */
export const roles = ['agent', 'server', 'gateway'] as const

/** One of the long-running commands. */
export type Role = (typeof roles)[number]

/** What `apiVersion` and `kind` say in the document of a role. */
export const headOf: Readonly<Record<Role, { readonly apiVersion: string; readonly kind: string }>> = {
  agent: { apiVersion: 'agent.edgemesh.config.kubeedge.io/v1alpha1', kind: 'EdgeMeshAgent' },
  server: { apiVersion: 'server.edgemesh.config.kubeedge.io/v1alpha1', kind: 'EdgeMeshServer' },
  gateway: { apiVersion: 'gateway.edgemesh.config.kubeedge.io/v1alpha1', kind: 'EdgeMeshGateway' },
}

/** Names that Kubernetes accepts for a Node. */
export const nodeNamePattern = /^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$/

function headFieldsOf(role: Role) {
  const { apiVersion, kind } = headOf[role]
  return {
    apiVersion: z.literal(apiVersion).default(apiVersion).describe('Version of this document.'),
    kind: z.literal(kind).default(kind).describe('Which command this document is for.'),
    nodeName: z
      .string()
      .regex(new RegExp(`${nodeNamePattern.source}|^$`))
      .default('')
      .describe('Name of this node; else env NODE_NAME, else the host name.')
      .meta({ expects: 'a node name of lower-case letters, digits, "-" and "."', examples: ['edge-a1'] }),
    stateDir: z
      .string()
      .startsWith('/')
      .default(`/var/lib/edgemesh/${role}`)
      .describe('Folder for the identity key and what survives a restart.'),
    runtimeDir: z
      .string()
      .regex(/^\/.{0,89}$/)
      .default(`/run/edgemesh/${role}`)
      .describe('Folder for the control socket.')
      // A socket's path may be 107 bytes long, its name included.
      .meta({ expects: 'an absolute path of at most 90 characters' }),
    logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info').describe('Least severe log lines written.'),
  }
}

const kubeFieldSchema = kubeSchema.prefault({}).describe('Where Services and endpoints come from.')

function tunnelFieldSchemaOf(listenPort: number, isEnabledByDefault = false) {
  return tunnelSchemaOf(listenPort, isEnabledByDefault).prefault({}).describe('The connections between nodes.')
}

/** The document of `edgemesh agent`. */
export const agentSchema = z.strictObject({
  ...headFieldsOf('agent'),
  kubeAPIConfig: kubeFieldSchema,
  commonConfig: commonSchema.prefault({}).describe("The node's own device."),
  modules: z
    .strictObject({
      edgeDNS: dnsSchema.prefault({}).describe('Cluster DNS on the node.'),
      edgeProxy: proxySchema.prefault({}).describe('What makes ClusterIPs work on the node.'),
      edgeTunnel: tunnelFieldSchemaOf(20006),
      edgeCNI: cniSchema,
    })
    .prefault({})
    .describe('The parts of the agent.'),
})

/** The document of `edgemesh server`. */
export const serverSchema = z.strictObject({
  ...headFieldsOf('server'),
  modules: z
    .strictObject({ edgeTunnel: tunnelFieldSchemaOf(20004, true) })
    .prefault({})
    .describe('The parts of the server.'),
})

/** The document of `edgemesh gateway`. */
export const gatewaySchema = z.strictObject({
  ...headFieldsOf('gateway'),
  kubeAPIConfig: kubeFieldSchema,
  modules: z
    .strictObject({ edgeGateway: gatewayModuleSchema, edgeTunnel: tunnelFieldSchemaOf(20007) })
    .prefault({})
    .describe('The parts of the gateway.'),
  pprofConfig: pprofSchema,
})

/** Validated document of `edgemesh agent`. */
export type AgentConfig = z.output<typeof agentSchema>

/** Validated document of `edgemesh server`. */
export type ServerConfig = z.output<typeof serverSchema>

/** Validated document of `edgemesh gateway`. */
export type GatewayConfig = z.output<typeof gatewaySchema>

/** The validated document of each role. */
export interface Configs {
  readonly agent: AgentConfig
  readonly server: ServerConfig
  readonly gateway: GatewayConfig
}

/** The schema of each role's document. */
export const schemas: { readonly [R in Role]: z.ZodType<Configs[R]> } = {
  agent: agentSchema,
  server: serverSchema,
  gateway: gatewaySchema,
}
