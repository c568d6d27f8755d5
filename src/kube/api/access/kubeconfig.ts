import { readFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { ApiConnection, ApiTls, LoadConnection } from './access.ts'
import { askCredentialPlugin, type PluginCredentials } from './credential-plugin.ts'
import { bearerOf, readIfThere } from './files.ts'
import {
  type CurrentContext,
  type KubeconfigCluster,
  KubeconfigError,
  type KubeconfigUser,
  parseCurrentContext,
} from './kubeconfig-file.ts'

export { KubeconfigError }

/** What is kept between two loads of the same file. */
interface Known {
  readonly text: string
  readonly context: CurrentContext
  credentials?: PluginCredentials
}

/**
 * The API server and user of a kubeconfig's current context. Files that it names are read each time, credential
 * plugins run when their last answer has expired or was refused. `server` takes the place of the file's server.
 */
export function kubeconfigConnection(file: string, server: string = ''): LoadConnection {
  let known: Known | undefined
  return async (isRefused) => {
    const text = await readFile(file, 'utf8')
    if (isRefused || known?.text !== text) known = { text, context: parseCurrentContext(file, text) }
    return await connectionOf(file, known, server)
  }
}

async function connectionOf(file: string, known: Known, server: string): Promise<ApiConnection> {
  const { cluster, user, userName } = known.context
  if (cluster['proxy-url']) throw new KubeconfigError(file, 'its cluster has a proxy-url; use a direct server')
  if (user['auth-provider']) {
    throw new KubeconfigError(file, `user ${userName} has an auth-provider; use exec or a token`)
  }
  const url = URL.parse(server || cluster.server)
  if (url === null) throw new KubeconfigError(file, `the server ${JSON.stringify(cluster.server)} is no URL`)
  const [tls, certificate, headers] = await Promise.all([clusterTls(cluster), clientCertificate(user), headersOf(user)])
  const plugin = await pluginCredentials(file, known)
  return {
    url,
    headers: { ...bearerOf(plugin?.token), ...headers },
    tls: { ...tls, ...certificate, ...plugin?.certificate },
  }
}

async function clusterTls(cluster: KubeconfigCluster): Promise<ApiTls> {
  const ca = await contentOf(cluster['certificate-authority'], cluster['certificate-authority-data'])
  return {
    ...(ca !== undefined && { ca }),
    ...(cluster['insecure-skip-tls-verify'] && { rejectUnauthorized: false }),
    ...(cluster['tls-server-name'] && { servername: cluster['tls-server-name'] }),
  }
}

async function clientCertificate(user: KubeconfigUser): Promise<ApiTls> {
  const cert = await contentOf(user['client-certificate'], user['client-certificate-data'])
  const key = await contentOf(user['client-key'], user['client-key-data'])
  return cert !== undefined && key !== undefined ? { cert, key } : {}
}

/** Inline data goes before a file, as in kubectl. */
async function contentOf(file: string | undefined, data: string | undefined): Promise<string | undefined> {
  if (data) return Buffer.from(data, 'base64').toString('utf8')
  return file === undefined ? undefined : await readFile(file, 'utf8')
}

async function headersOf(user: KubeconfigUser): Promise<Record<string, string>> {
  const token = (user.tokenFile === undefined ? undefined : await readIfThere(user.tokenFile)) ?? user.token
  const basic = Buffer.from(`${user.username}:${user.password}`).toString('base64')
  return {
    ...(user.username && { authorization: `Basic ${basic}` }),
    ...bearerOf(token),
    ...(user.as && { 'impersonate-user': user.as }),
  }
}

/** The last answer of the credential plugin while it holds, else a new one; undefined without a plugin. */
async function pluginCredentials(file: string, known: Known): Promise<PluginCredentials | undefined> {
  const { user, userName } = known.context
  if (!user.exec) return undefined
  if (known.credentials !== undefined && known.credentials.expiresAt > Date.now()) return known.credentials
  try {
    known.credentials = await askCredentialPlugin(user.exec, dirname(file))
    return known.credentials
  } catch (error) {
    throw new KubeconfigError(file, `the credential plugin of user ${userName} failed`, { cause: error })
  }
}
