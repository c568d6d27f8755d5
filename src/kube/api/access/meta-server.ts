import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { KubeConfig } from '../../config.ts'
import type { LoadConnection } from './access.ts'
import { bearerOf, readIfThere, serviceAccountDirectory } from './files.ts'

/** KubeEdge's metaServer; with `requireAuthorization` by https, with the service account's token and a certificate. */
export function metaServerConnection(
  { server, security }: KubeConfig['metaServer'],
  directory: string = serviceAccountDirectory,
): LoadConnection {
  if (!security.requireAuthorization) return async () => ({ url: new URL(server), headers: {}, tls: {} })
  const url = new URL(server.replace(/^http:/, 'https:'))
  return async () => {
    // A process that is no Pod has no token, and then the certificate has to do.
    const headers = bearerOf(await readIfThere(join(directory, 'token')))
    if (security.insecureSkipTLSVerify) return { url, headers, tls: { rejectUnauthorized: false } }
    const [ca, cert, key] = await Promise.all([
      readFile(security.tlsCaFile, 'utf8'),
      readIfThere(security.tlsCertFile),
      readIfThere(security.tlsPrivateKeyFile),
    ])
    return { url, headers, tls: { ca, ...(cert !== undefined && key !== undefined && { cert, key }) } }
  }
}
