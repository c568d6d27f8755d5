import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { LoadConnection } from './access.ts'
import { bearerOf, readIfThere, serviceAccountDirectory } from './files.ts'

/** Environment variables, as in `process.env`. */
export type Environment = Readonly<Record<string, string | undefined>>

/** The URL of the API server that Kubernetes tells its Pods; undefined outside of one. */
export function inClusterUrlOf(env: Environment): string | undefined {
  const host = env['KUBERNETES_SERVICE_HOST'] ?? ''
  const port = env['KUBERNETES_SERVICE_PORT'] || '443'
  if (host === '') return undefined
  return `https://${host.includes(':') ? `[${host}]` : host}:${port}`
}

/** The API server of the cluster that this Pod runs in, with its service account. */
export function inClusterConnection(url: string, directory: string = serviceAccountDirectory): LoadConnection {
  return async () => {
    const [token, ca] = await Promise.all([
      readFile(join(directory, 'token'), 'utf8'),
      readFile(join(directory, 'ca.crt'), 'utf8'),
    ])
    return { url: new URL(url), headers: bearerOf(token), tls: { ca } }
  }
}

/** An API server by its URL alone; with the service account where this process has one. */
export function masterConnection(url: string, directory: string = serviceAccountDirectory): LoadConnection {
  return async () => {
    const [token, ca] = await Promise.all([
      readIfThere(join(directory, 'token')),
      readIfThere(join(directory, 'ca.crt')),
    ])
    return { url: new URL(url), headers: bearerOf(token), tls: ca === undefined ? {} : { ca } }
  }
}
