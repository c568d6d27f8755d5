import { readFile } from 'node:fs/promises'

/** Where Kubernetes mounts a Pod's service account. */
export const serviceAccountDirectory = '/var/run/secrets/kubernetes.io/serviceaccount'

/** The content of a file; undefined when there is none. */
export async function readIfThere(file: string): Promise<string | undefined> {
  try {
    return await readFile(file, 'utf8')
  } catch (error) {
    if (error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR')) {
      return undefined
    }
    throw error
  }
}

/** The header that presents a token; none for an absent or empty one. */
export function bearerOf(token: string | undefined): Readonly<Record<string, string>> {
  const trimmed = token?.trim() ?? ''
  return trimmed === '' ? {} : { authorization: `Bearer ${trimmed}` }
}
