import { readFile } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'
import type { Cluster, KubeConfig, User } from '@kubernetes/client-node'
import { parse } from 'yaml'
import { TimeLimits } from '../time-limits.ts'
import type { ApiConnection, ApiTls, LoadConnection } from './access.ts'
import { bearerOf, readIfThere } from './files.ts'

/** A kubeconfig file that names no usable API server. */
export class KubeconfigError extends Error {
  override readonly name = 'KubeconfigError'
  readonly code = 'EDGEMESH_KUBECONFIG'

  constructor(file: string, problem: string, options?: ErrorOptions) {
    super(`Cannot use kubeconfig ${file}: ${problem}`, options)
  }
}

/** A credential plugin may have to ask a server of its own. */
const pluginTimeoutMs = 30_000

/**
 * The API server and user of a kubeconfig's current context. Files that it names are read each time, credential
 * plugins run when their last answer has expired or was refused. `server` takes the place of the file's server.
 */
export function kubeconfigConnection(file: string, server: string = ''): LoadConnection {
  let known: { readonly text: string; readonly config: KubeConfig } | undefined
  return async (isRefused) => {
    const text = await readFile(file, 'utf8')
    // The library keeps a plugin's answer, so a refused one is forgotten with the object that keeps it.
    if (isRefused || known?.text !== text) known = { text, config: await parseKubeconfig(file, text) }
    return await connectionOf(file, known, server)
  }
}

async function parseKubeconfig(file: string, text: string): Promise<KubeConfig> {
  const { KubeConfig: Config } = await import('@kubernetes/client-node')
  const config = new Config()
  try {
    config.loadFromString(text)
  } catch (error) {
    throw new KubeconfigError(file, 'it is not valid', { cause: error })
  }
  config.makePathsAbsolute(dirname(file))
  return config
}

async function connectionOf(
  file: string,
  { text, config }: { readonly text: string; readonly config: KubeConfig },
  server: string,
): Promise<ApiConnection> {
  const context = config.getCurrentContext()
  const cluster = config.getCurrentCluster()
  if (cluster === null) throw new KubeconfigError(file, `its current context ${JSON.stringify(context)} has no cluster`)
  if (cluster.proxyUrl) throw new KubeconfigError(file, `cluster ${cluster.name} has a proxy-url; use a direct server`)
  const url = URL.parse(server || cluster.server)
  if (url === null) throw new KubeconfigError(file, `the server ${JSON.stringify(cluster.server)} is no URL`)
  const user = config.getCurrentUser() ?? { name: '' }
  const [tls, certificate, headers] = await Promise.all([
    clusterTls(cluster),
    clientCertificate(user),
    headersOf(user, tokenFileOf(text, user.name, dirname(file))),
  ])
  const plugin = user.exec || user.authProvider ? await askPlugin(file, config, user) : { headers: {}, tls: {} }
  return { url, headers: { ...plugin.headers, ...headers }, tls: { ...tls, ...certificate, ...plugin.tls } }
}

async function clusterTls(cluster: Cluster): Promise<ApiTls> {
  const ca = await contentOf(cluster.caFile, cluster.caData)
  return {
    ...(ca !== undefined && { ca }),
    ...(cluster.skipTLSVerify && { rejectUnauthorized: false }),
    ...(cluster.tlsServerName && { servername: cluster.tlsServerName }),
  }
}

async function clientCertificate(user: User): Promise<ApiTls> {
  const cert = await contentOf(user.certFile, user.certData)
  const key = await contentOf(user.keyFile, user.keyData)
  return cert !== undefined && key !== undefined ? { cert, key } : {}
}

/** Inline data goes before a file, as in kubectl. */
async function contentOf(file: string | undefined, data: string | undefined): Promise<string | undefined> {
  if (data) return Buffer.from(data, 'base64').toString('utf8')
  return file ? await readFile(file, 'utf8') : undefined
}

async function headersOf(user: User, tokenFile: string | undefined): Promise<Record<string, string>> {
  const token = (tokenFile === undefined ? undefined : await readIfThere(tokenFile)) ?? user.token
  const basic = Buffer.from(`${user.username}:${user.password}`).toString('base64')
  return {
    ...(user.username && { authorization: `Basic ${basic}` }),
    ...bearerOf(token),
    ...(user.impersonateUser && { 'impersonate-user': user.impersonateUser }),
  }
}

/** The library does not know `tokenFile`. */
function tokenFileOf(text: string, userName: string, directory: string): string | undefined {
  const { users } = parse(text) as { readonly users?: readonly { name?: string; user?: { tokenFile?: unknown } }[] }
  const tokenFile = users?.find(({ name }) => name === userName)?.user?.tokenFile
  return typeof tokenFile === 'string' && tokenFile !== '' ? resolve(directory, tokenFile) : undefined
}

/** Has the library run the credential plugin. */
async function askPlugin(
  file: string,
  config: KubeConfig,
  user: User,
): Promise<{ readonly headers: Readonly<Record<string, string>>; readonly tls: ApiTls }> {
  tellPlugin(config, user)
  const options: PluginAnswer = {}
  using limits = new TimeLimits('it', pluginTimeoutMs, new AbortController().signal)
  try {
    await limits.race(config.applyToHTTPSOptions(options))
  } catch (error) {
    throw new KubeconfigError(file, `the credential plugin of user ${user.name} failed`, { cause: error })
  }
  const { Authorization: authorization } = options.headers ?? {}
  const { cert, key } = options
  return {
    headers: authorization === undefined ? {} : { authorization },
    tls: cert !== undefined && key !== undefined ? { cert, key } : {},
  }
}

/** Some plugins insist on being told how they are run, which the library does not do. */
function tellPlugin(config: KubeConfig, { name, exec }: User): void {
  if (typeof exec !== 'object' || exec === null) return
  const variable = 'KUBERNETES_EXEC_INFO'
  const apiVersion: unknown = Reflect.get(exec, 'apiVersion')
  const value = JSON.stringify({ apiVersion, kind: 'ExecCredential', spec: { interactive: false } })
  const env: unknown = Reflect.get(exec, 'env')
  const others = (Array.isArray(env) ? env : []).filter((entry) => Reflect.get(Object(entry), 'name') !== variable)
  config.users = config.users.map((user) =>
    user.name === name ? { ...user, exec: { ...exec, env: [...others, { name: variable, value }] } } : user,
  )
}

interface PluginAnswer {
  headers?: Record<string, string>
  cert?: string
  key?: string
}
