import { chmod, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { KubeObject } from '../../envtest/index.ts'
import { edgemeshBinary, type Host, type LabProcess } from '../../lab/index.ts'

interface Container {
  readonly command: readonly string[]
  readonly volumeMounts: readonly { readonly name: string; readonly mountPath: string; readonly readOnly?: boolean }[]
  readonly readinessProbe: { readonly exec: { readonly command: readonly string[] } }
  readonly securityContext: {
    readonly allowPrivilegeEscalation: boolean
    readonly readOnlyRootFilesystem: boolean
    readonly capabilities: { readonly drop: readonly string[]; readonly add?: readonly string[] }
  }
}

interface PodSpec {
  readonly containers: readonly [Container]
  readonly volumes: readonly Volume[]
}

interface Volume {
  readonly name: string
  readonly configMap?: { readonly name: string }
  readonly secret?: { readonly secretName: string; readonly optional?: boolean; readonly defaultMode: number }
  readonly hostPath?: { readonly path: string; readonly type: string }
}

/** A running pod. */
export interface Pod {
  readonly process: LabProcess
  /** Runs a command inside, as a probe does. */
  exec(argv: readonly string[]): ReturnType<Host['exec']>
  readonly readinessProbe: readonly string[]
}

/** What a pod finds beside the objects it names. */
export interface PodOptions {
  readonly env?: Readonly<Record<string, string>>
  /** Folders of this machine, by where the container sees them. */
  readonly folders?: Readonly<Record<string, string>>
}

/**
 * Plays a kubelet for a pod with hostNetwork: its command runs on the host with the volumes, the capabilities and the
 * read-only root that the workload's template asks for. The programs are those of this machine.
 */
export async function runPod(
  host: Host,
  workload: KubeObject,
  objects: readonly KubeObject[],
  { env = {}, folders = {} }: PodOptions = {},
): Promise<Pod> {
  const { containers, volumes } = (workload['spec'] as { readonly template: { readonly spec: PodSpec } }).template.spec
  const [container] = containers
  const base = join(host.dir, `pod-${workload.metadata.name}`)
  const sources = new Map<string, string>()
  for (const volume of volumes) {
    const source = await makeVolume(volume, join(base, volume.name), objects)
    if (source !== undefined) sources.set(volume.name, source)
  }
  const mounts = container.volumeMounts.flatMap(({ name, mountPath, readOnly }) => {
    const source = sources.get(name)
    return source === undefined ? [] : [{ source, path: mountPath, isReadOnly: readOnly === true }]
  })
  const more = Object.entries(folders).map(([path, source]) => ({ source, path, isReadOnly: true }))
  const argv = ['sh', '-e', '-c', renderSetUp(base, [...mounts, ...more]), 'pod', ...privilegesOf(container)]
  const process = host.spawn([...argv, ...container.command], { env })
  const enter = ['nsenter', '--target', String(process.pid), '--mount', '--']
  return {
    process,
    exec: (command) => host.exec([...enter, ...command]),
    readinessProbe: container.readinessProbe.exec.command,
  }
}

/** Makes what a volume shows; undefined for an optional one that has nothing to show. */
async function makeVolume(volume: Volume, path: string, objects: readonly KubeObject[]): Promise<string | undefined> {
  const { configMap, secret, hostPath } = volume
  if (hostPath?.type === 'FileOrCreate') {
    await mkdir(join(path, '..'), { recursive: true })
    await writeFile(path, '', { flag: 'a' })
    return path
  }
  await mkdir(path, { recursive: true })
  if (hostPath !== undefined) return path
  const [kind, name] = configMap === undefined ? ['Secret', secret?.secretName] : ['ConfigMap', configMap.name]
  const object = objects.find((each) => each.kind === kind && each.metadata.name === name)
  if (object === undefined && secret?.optional === true) return undefined
  if (object === undefined) throw new Error(`The pod waits for ever: there is no ${kind} ${name}`)
  for (const [key, value] of Object.entries(object['data'] as Record<string, string>)) {
    const file = join(path, key)
    await writeFile(file, kind === 'Secret' ? Buffer.from(value, 'base64') : value)
    await chmod(file, secret?.defaultMode ?? 0o644)
  }
  return path
}

interface Mount {
  readonly source: string
  readonly path: string
  readonly isReadOnly: boolean
}

/** In the mount namespace that `ip netns exec` has made for this command alone. */
function renderSetUp(base: string, mounts: readonly Mount[]): string {
  // A root of which a part may be written until everything has its place, then nothing but the volumes.
  const writable = ['/etc', '/var/lib', '/usr/local/bin']
  return [
    `mkdir -p ${base}/root`,
    ...writable.flatMap((path) => {
      const copy = `${base}/root${path}`
      const fill = path === '/etc' ? `cp -a /etc/. ${copy}` : 'true'
      return [`mkdir -p ${copy}`, fill, `mount --bind ${copy} ${path}`, `mount --make-private ${path}`]
    }),
    'touch /usr/local/bin/edgemesh',
    `mount --bind ${edgemeshBinary()} /usr/local/bin/edgemesh`,
    // Container engines give it these flags.
    'mount -t tmpfs -o noexec,nosuid,nodev tmpfs /dev/shm',
    ...mounts.flatMap(({ source, path, isReadOnly }) => [
      `[ -d ${source} ] && mkdir -p ${path} || { mkdir -p $(dirname ${path}); touch ${path}; }`,
      `mount --bind ${source} ${path}`,
      ...(isReadOnly ? [`mount -o remount,bind,ro ${path}`] : []),
    ]),
    ...[...writable, '/'].map((path) => `mount -o remount,bind,ro ${path}`),
    'exec "$@"',
  ].join('\n')
}

function privilegesOf({ securityContext }: Container): string[] {
  const { capabilities, allowPrivilegeEscalation } = securityContext
  const added = (capabilities.add ?? []).map((name) => `+${name.toLowerCase()}`)
  const bounding = ['-all', ...added].join(',')
  return [
    'setpriv',
    ...(allowPrivilegeEscalation ? [] : ['--no-new-privs']),
    `--bounding-set=${bounding}`,
    '--inh-caps=-all',
  ]
}
