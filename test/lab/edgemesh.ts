import { writeFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import process from 'node:process'
import { stringify } from 'yaml'
import type { AgentConfig, Role, ServerConfig } from '../../src/config/index.ts'
import type { Host } from './host.ts'
import type { LabProcess } from './lab-process.ts'

/** Any part of a document; lists are replaced whole. */
export type DeepPartial<T> = T extends readonly unknown[]
  ? T
  : T extends object
    ? { [K in keyof T]?: DeepPartial<T[K]> }
    : T

/** How to start the executable. */
export interface LaunchOptions {
  /** How long it may take to be ready. Default 15 s; 0 does not wait. */
  readonly readyTimeoutMs?: number
  readonly env?: Readonly<Record<string, string>>
  /** A command that runs the executable: its words stand before the path. */
  readonly through?: readonly string[]
}

/** The executable under test: env EDGEMESH_BINARY, else what `npm run build` made for this machine. */
export function edgemeshBinary(): string {
  const root = resolve(import.meta.dirname, '../..')
  return resolve(process.env['EDGEMESH_BINARY'] ?? join(root, 'dist', `edgemesh-linux-${process.arch}`))
}

/** Starts the real executable on hosts with configuration files that fit the lab. */
export class EdgemeshLauncher {
  readonly #dir: string
  readonly #kubeAPIConfig: () => DeepPartial<AgentConfig['kubeAPIConfig']>
  /** Addresses of the servers started so far. */
  readonly #servers = new Set<string>()

  constructor(labDir: string, kubeAPIConfig: () => DeepPartial<AgentConfig['kubeAPIConfig']>) {
    this.#dir = labDir
    this.#kubeAPIConfig = kubeAPIConfig
  }

  async startServer(host: Host, config: DeepPartial<ServerConfig>, options: LaunchOptions): Promise<LabProcess> {
    const base: DeepPartial<ServerConfig> = {
      ...nodeFieldsOf(host, 'server'),
      modules: { edgeTunnel: { enable: true, advertiseAddress: [host.address], psk: { path: this.#psk } } },
    }
    const started = await launch(host, 'server', merge(base, config), options)
    this.#servers.add(`${host.address}:${config.modules?.edgeTunnel?.listenPort ?? 20004}`)
    return started
  }

  async startAgent(host: Host, config: DeepPartial<AgentConfig>, options: LaunchOptions): Promise<LabProcess> {
    const servers = [...this.#servers]
    const base: DeepPartial<AgentConfig> = {
      ...nodeFieldsOf(host, 'agent'),
      kubeAPIConfig: this.#kubeAPIConfig(),
      modules: {
        edgeDNS: { enable: true },
        edgeProxy: { enable: true },
        edgeTunnel: { enable: servers.length > 0, servers, psk: { path: this.#psk } },
      },
    }
    return await launch(host, 'agent', merge(base, config), options)
  }

  get #psk(): string {
    return join(this.#dir, 'psk')
  }
}

function nodeFieldsOf(host: Host, role: Role) {
  return {
    nodeName: host.name,
    stateDir: join(host.dir, role, 'state'),
    runtimeDir: join(host.dir, role, 'run'),
  }
}

async function launch(host: Host, role: Role, config: unknown, options: LaunchOptions): Promise<LabProcess> {
  const file = join(host.dir, `edgemesh-${role}.yaml`)
  await writeFile(file, stringify(config))
  const { readyTimeoutMs = 15_000, env = {}, through = [] } = options
  const started = host.spawn([...through, edgemeshBinary(), role, '--config', file], { env })
  if (readyTimeoutMs > 0) await started.waitForLine(new RegExp(`"msg":"${role} ready"`), readyTimeoutMs)
  return started
}

function merge(base: unknown, changes: unknown): unknown {
  if (!isObject(base) || !isObject(changes)) return changes === undefined ? base : changes
  const keys = new Set([...Object.keys(base), ...Object.keys(changes)])
  return Object.fromEntries([...keys].map((key) => [key, merge(base[key], changes[key])]))
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
