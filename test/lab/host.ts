import { spawn } from 'node:child_process'
import { constants } from 'node:os'
import { join } from 'node:path'
import process from 'node:process'
import { text } from 'node:stream/consumers'
import { LabProcess } from './lab-process.ts'
import type { HostPlan } from './topology.ts'

/** How a command ended and what it wrote. */
export interface ExecResult {
  /** The exit code, or 128 plus the number of the signal that ended it. */
  readonly code: number
  readonly stdout: string
  readonly stderr: string
}

/** How to run a command on a host. */
export interface ExecOptions {
  /** Standard input; empty when absent. */
  readonly input?: string | Uint8Array
  /** After this time the command is killed and `exec` rejects. Default 10 s. */
  readonly timeoutMs?: number
  /** Added to this process's environment. */
  readonly env?: Readonly<Record<string, string>>
}

/** A network namespace with a name, an address and a resolver, in which commands run. */
export class Host {
  readonly name: string
  readonly kind: HostPlan['kind']
  readonly address: string
  /** The network namespace, as `ip netns` knows it. */
  readonly netns: string
  /** A folder of this host alone, in memory; gone with the lab. */
  readonly dir: string
  readonly #prefix: readonly string[]
  readonly #processes = new Set<LabProcess>()

  constructor(plan: HostPlan, netns: string, dir: string) {
    this.name = plan.name
    this.kind = plan.kind
    this.address = plan.address
    this.netns = netns
    this.dir = dir
    const enter = ['ip', 'netns', 'exec', netns]
    // `ip netns exec` gives each command a mount namespace of its own, so the mount is seen by nobody else.
    const mount = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    this.#prefix = plan.resolvConf === undefined ? enter : [...enter, 'sh', '-c', mount, this.resolvConf]
  }

  /** The file that this host sees as /etc/resolv.conf. */
  get resolvConf(): string {
    return join(this.dir, 'resolv.conf')
  }

  /** Runs a command to its end; a command that fails is a result, one that takes too long is an error. */
  async exec(argv: readonly string[], options: ExecOptions = {}): Promise<ExecResult> {
    const timeoutMs = options.timeoutMs ?? 10_000
    const child = this.#start(argv, options)
    child.stdin.on('error', () => {}) // A command need not read its input.
    child.stdin.end(options.input ?? '')
    let isLate = false
    const timer = setTimeout(() => {
      isLate = true
      killGroup(child.pid)
    }, timeoutMs)
    try {
      const closed = new Promise<[number | null, NodeJS.Signals | null]>((resolve, reject) => {
        child.once('error', reject).once('close', (...end) => resolve(end))
      })
      const [stdout, stderr, [code, signal]] = await Promise.all([text(child.stdout), text(child.stderr), closed])
      if (!isLate) return { code: code ?? 128 + constants.signals[signal ?? 'SIGKILL'], stdout, stderr }
      throw new Error(`${this.name}: ${argv.join(' ')} took longer than ${timeoutMs} ms\n${stdout}${stderr}`)
    } finally {
      clearTimeout(timer)
    }
  }

  /** Starts a command that runs until it is stopped or the lab is disposed. */
  spawn(argv: readonly string[], options: Pick<ExecOptions, 'env'> = {}): LabProcess {
    const child = this.#start(argv, options)
    child.stdin.end()
    const started = new LabProcess(`${this.name}: ${argv.join(' ')}`, child)
    this.#processes.add(started)
    void started.exited.then(() => this.#processes.delete(started))
    return started
  }

  /** Stops everything that `spawn` started here and still runs. */
  async stopAll(): Promise<void> {
    await Promise.all([...this.#processes].map((running) => running[Symbol.asyncDispose]()))
  }

  #start(argv: readonly string[], options: Pick<ExecOptions, 'env'>) {
    const [command = '', ...rest] = [...this.#prefix, ...argv]
    // A group of its own, so that a command that takes too long is killed with its children.
    return spawn(command, rest, {
      detached: true,
      cwd: this.dir,
      env: { ...process.env, ...options.env },
    })
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return
  try {
    process.kill(-pid, 'SIGKILL')
  } catch {
    // It ended by itself in the meantime.
  }
}
