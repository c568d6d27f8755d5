import { execFile } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'

/** PEM files of one certificate. */
export interface CertificateFiles {
  readonly cert: string
  readonly key: string
}

/** An authority that signs certificates for tests, with openssl, in a folder of the test's own. */
export interface TestAuthority {
  /** The authority's own certificate. */
  readonly ca: string
  /** A certificate for a server at these addresses, or a client of that name. */
  issue(name: string, options?: IssueOptions): Promise<CertificateFiles>
}

/** What a certificate says beside the name. */
export interface IssueOptions {
  /** Kubernetes takes it as the user's group. */
  readonly organisation?: string
  readonly addresses?: readonly string[]
}

/** Makes an authority; its files are gone with the folder. */
export async function createTestAuthority(directory: string, name: string): Promise<TestAuthority> {
  const ca = join(directory, `${name}.crt`)
  const caKey = join(directory, `${name}.key`)
  await openssl(['req', '-x509', ...newKey, '-keyout', caKey, '-out', ca, '-days', '30', '-subj', `/CN=${name}`])
  return {
    ca,
    async issue(subject, { organisation, addresses = [] } = {}) {
      const base = join(directory, `${name}-${subject.replaceAll(/[^a-z0-9-]/g, '-')}`)
      const files = { cert: `${base}.crt`, key: `${base}.key` }
      const group = organisation === undefined ? '' : `/O=${organisation}`
      const extensions = ['extendedKeyUsage=serverAuth,clientAuth', ...subjectAltName(addresses)].join('\n')
      await writeFile(`${base}.ext`, extensions)
      const request = ['req', ...newKey, '-keyout', files.key, '-out', `${base}.csr`, '-subj', `${group}/CN=${subject}`]
      await openssl(request)
      const signing = ['-CA', ca, '-CAkey', caKey, '-CAcreateserial', '-extfile', `${base}.ext`]
      await openssl(['x509', '-req', '-in', `${base}.csr`, '-out', files.cert, '-days', '30', ...signing])
      return files
    },
  }
}

/** A private key for signing service account tokens. */
export async function createSigningKey(file: string): Promise<void> {
  await openssl(['genrsa', '-out', file, '2048'])
}

const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']

function subjectAltName(addresses: readonly string[]): string[] {
  if (addresses.length === 0) return []
  const names = addresses.map((address) => `${/^[\d.:a-f]*[\d:]$/.test(address) ? 'IP' : 'DNS'}:${address}`)
  return [`subjectAltName=${names.join(',')}`]
}

async function openssl(args: readonly string[]): Promise<void> {
  await promisify(execFile)('openssl', args)
}
