import { execFile } from 'node:child_process'
import { constants } from 'node:fs'
import { access, chmod, mkdir, rename, rm, writeFile } from 'node:fs/promises'
import { delimiter, join } from 'node:path'
import process from 'node:process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

/** Programs of a Kubernetes control plane, as paths. */
export interface ControlPlaneBinaries {
  readonly etcd: string
  readonly apiServer: string
  readonly controllerManager: string
}

const root = fileURLToPath(new URL('../../', import.meta.url))
const unpackedDir = join(root, '.cache/envtest')
const packedDir = join(root, '../shared/envtest')
const limitBytes = 512 * 1024 * 1024

/**
 * True when somebody has asked to do without a real API server, in so many words; a line then says what is not run.
 * In CI that is no choice.
 */
export function isWithoutEnvtest(): boolean {
  if (process.env['EDGEMESH_WITHOUT_ENVTEST'] !== '1') return false
  if (process.env['CI'])
    throw new Error('EDGEMESH_WITHOUT_ENVTEST=1 is not allowed in CI: the API server tests must run')
  process.stderr.write('NOT RUN: tests against a real kube-apiserver, because EDGEMESH_WITHOUT_ENVTEST=1\n')
  return true
}

/** Finds the programs, unpacking them when they are only there as .xz. Throws with what to do when one is missing. */
export async function findBinaries(): Promise<ControlPlaneBinaries> {
  const [etcd, apiServer, controllerManager] = await Promise.all(
    ['etcd', 'kube-apiserver', 'kube-controller-manager'].map(findBinary),
  )
  if (etcd === undefined || apiServer === undefined || controllerManager === undefined) {
    throw new Error('findBinary gave no path')
  }
  return { etcd, apiServer, controllerManager }
}

/** Finds kube-proxy as the others. */
export async function findKubeProxy(): Promise<string> {
  return await findBinary('kube-proxy')
}

async function findBinary(name: string): Promise<string> {
  const assets = process.env['KUBEBUILDER_ASSETS'] ?? ''
  const folders = [...(assets === '' ? [] : [assets]), unpackedDir, ...(process.env['PATH'] ?? '').split(delimiter)]
  for (const folder of folders) {
    if (await isExecutable(join(folder, name))) return join(folder, name)
  }
  const unpacked = await unpack(name)
  if (unpacked !== undefined) return unpacked
  const message = [
    `Cannot run tests against a real kube-apiserver: ${name} is not to be found.`,
    'Set KUBEBUILDER_ASSETS to a folder with kube-apiserver, kube-controller-manager and etcd (Debian: etcd-server),',
    'or EDGEMESH_WITHOUT_ENVTEST=1 to leave these tests out.',
  ]
  throw new Error(message.join('\n'))
}

async function unpack(name: string): Promise<string | undefined> {
  const packed = join(packedDir, `${name}.xz`)
  if (!(await isReadable(packed))) return undefined
  await mkdir(unpackedDir, { recursive: true })
  const path = join(unpackedDir, name)
  const partial = `${path}.${process.pid}`
  try {
    const options = { encoding: 'buffer', maxBuffer: limitBytes } as const
    const { stdout } = await promisify(execFile)('xz', ['--decompress', '--stdout', packed], options)
    await writeFile(partial, stdout)
    await chmod(partial, 0o755)
    await rename(partial, path)
    return path
  } finally {
    await rm(partial, { force: true })
  }
}

async function isExecutable(path: string): Promise<boolean> {
  return await isAllowed(path, constants.X_OK)
}

async function isReadable(path: string): Promise<boolean> {
  return await isAllowed(path, constants.R_OK)
}

async function isAllowed(path: string, mode: number): Promise<boolean> {
  try {
    await access(path, mode)
    return true
  } catch {
    return false
  }
}
