import { dirname, resolve } from 'node:path'
import { parse } from 'yaml'
import * as z from 'zod'

/** A kubeconfig file that names no usable API server. */
export class KubeconfigError extends Error {
  override readonly name = 'KubeconfigError'
  readonly code = 'EDGEMESH_KUBECONFIG'

  constructor(file: string, problem: string, options?: ErrorOptions) {
    super(`Cannot use kubeconfig ${file}: ${problem}`, options)
  }
}

const text = z.string().optional()

const clusterSchema = z.object({
  server: z.string(),
  'certificate-authority': text,
  'certificate-authority-data': text,
  'insecure-skip-tls-verify': z.boolean().optional(),
  'tls-server-name': text,
  'proxy-url': text,
})

const execSchema = z.object({
  apiVersion: z.string().default('client.authentication.k8s.io/v1'),
  command: z.string(),
  args: z.array(z.string()).nullish(),
  env: z.array(z.object({ name: z.string(), value: z.string() })).nullish(),
})

const userSchema = z.object({
  'client-certificate': text,
  'client-certificate-data': text,
  'client-key': text,
  'client-key-data': text,
  token: text,
  tokenFile: text,
  username: text,
  password: text,
  as: text,
  exec: execSchema.nullish(),
  'auth-provider': z.unknown().optional(),
})

/** The fields of client-go's `clientcmd/api/v1.Config` that decide how to reach the API. */
const kubeconfigSchema = z.object({
  clusters: z.array(z.object({ name: z.string(), cluster: clusterSchema })).nullish(),
  users: z.array(z.object({ name: z.string(), user: userSchema.nullish() })).nullish(),
  contexts: z.array(z.object({ name: z.string(), context: z.object({ cluster: text, user: text }) })).nullish(),
  'current-context': text,
})

/** A cluster as the file has it; files are named by absolute paths. */
export type KubeconfigCluster = z.output<typeof clusterSchema>

/** A user as the file has it; files are named by absolute paths. */
export type KubeconfigUser = z.output<typeof userSchema>

/** How a credential plugin is run. */
export type KubeconfigExec = z.output<typeof execSchema>

/** What the current context of a kubeconfig names. */
export interface CurrentContext {
  readonly cluster: KubeconfigCluster
  /** Empty where the context names nobody. */
  readonly user: KubeconfigUser
  readonly userName: string
}

/** Reads the current context; throws a `KubeconfigError` that names what is missing. */
export function parseCurrentContext(file: string, content: string): CurrentContext {
  const config = parseKubeconfig(file, content)
  const current = config['current-context'] ?? ''
  const context = config.contexts?.find(({ name }) => name === current)?.context
  const cluster = config.clusters?.find(({ name }) => name === context?.cluster)?.cluster
  if (cluster === undefined)
    throw new KubeconfigError(file, `its current context ${JSON.stringify(current)} has no cluster`)
  const userName = context?.user ?? ''
  const user = config.users?.find(({ name }) => name === userName)?.user ?? userSchema.parse({})
  return { cluster: clusterWithPaths(cluster, dirname(file)), user: userWithPaths(user, dirname(file)), userName }
}

function parseKubeconfig(file: string, content: string): z.output<typeof kubeconfigSchema> {
  try {
    return kubeconfigSchema.parse(parse(content))
  } catch (error) {
    throw new KubeconfigError(file, 'it is not valid', { cause: error })
  }
}

/** Paths in a kubeconfig are relative to its folder. */
function clusterWithPaths(cluster: KubeconfigCluster, folder: string): KubeconfigCluster {
  return { ...cluster, 'certificate-authority': absolute(cluster['certificate-authority'], folder) }
}

function userWithPaths(user: KubeconfigUser, folder: string): KubeconfigUser {
  return {
    ...user,
    'client-certificate': absolute(user['client-certificate'], folder),
    'client-key': absolute(user['client-key'], folder),
    tokenFile: absolute(user.tokenFile, folder),
  }
}

function absolute(path: string | undefined, folder: string): string | undefined {
  return path === undefined || path === '' ? undefined : resolve(folder, path)
}
