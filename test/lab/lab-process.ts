import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import type { Readable } from 'node:stream'

/** How a process ended. */
export interface Exit {
  readonly code: number | null
  readonly signal: NodeJS.Signals | null
}

/** Lines of output kept for each process; older ones are dropped. */
const keptLines = 20_000
const shownLines = 30
/** How long after its end a process's output may stay open in the hands of its children. */
const lateOutputMs = 300

/** A process running on a host of the lab, with what it has written. Killed at the latest when the lab is disposed. */
export class LabProcess implements AsyncDisposable {
  readonly name: string
  /** The process id as this process sees it; it is the command itself, not a wrapper. */
  readonly pid: number
  /** Resolves when the process has ended and its output is read. */
  readonly exited: Promise<Exit>
  readonly #child: ChildProcess
  readonly #lines: string[] = []
  #watchers: readonly ((line: string) => void)[] = []
  #exit: Exit | undefined

  constructor(name: string, child: ChildProcess) {
    if (child.pid === undefined) throw new Error(`Cannot start ${name}`)
    this.name = name
    this.pid = child.pid
    this.#child = child
    for (const stream of [child.stdout, child.stderr]) this.#collect(stream)
    this.exited = endOf(child).then((exit) => {
      this.#exit = exit
      return exit
    })
  }

  /** Standard output and error so far, in order of arrival by line. */
  output(): string {
    return this.#lines.join('\n')
  }

  /** How it ended, or undefined while it runs. */
  get exit(): Exit | undefined {
    return this.#exit
  }

  /** The first line, past or future, that matches; rejects with the last output on timeout or when the process ends. */
  async waitForLine(pattern: RegExp, timeoutMs = 10_000): Promise<string> {
    const past = this.#lines.find((line) => pattern.test(line))
    if (past !== undefined) return past
    const { promise, resolve, reject } = Promise.withResolvers<string>()
    const watch = (line: string) => {
      if (pattern.test(line)) resolve(line)
    }
    const fail = (why: string) => {
      const shown = this.#lines.slice(-shownLines).join('\n')
      reject(new Error(`${this.name}: no line matches ${pattern}: ${why}; its output ends with:\n${shown}`))
    }
    const timer = setTimeout(fail, timeoutMs, `waited ${timeoutMs} ms`)
    this.#watchers = [...this.#watchers, watch]
    void this.exited.then(({ code, signal }) => fail(`it ended with ${signal ?? `code ${code}`}`))
    try {
      return await promise
    } finally {
      clearTimeout(timer)
      this.#watchers = this.#watchers.filter((other) => other !== watch)
    }
  }

  /** Sends a signal and does not wait. Does nothing once the process has ended. */
  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal)
  }

  /**
   * Sends a signal and waits for the end; after `timeoutMs` the process is killed, which the result then shows as
   * SIGKILL.
   */
  async stop(signal: NodeJS.Signals = 'SIGTERM', timeoutMs = 5_000): Promise<Exit> {
    this.kill(signal)
    const timer = setTimeout(() => this.kill('SIGKILL'), timeoutMs)
    try {
      return await this.exited
    } finally {
      clearTimeout(timer)
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop('SIGTERM', 2_000)
  }

  #collect(stream: Readable | null): void {
    if (stream === null) return
    createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY }).on('line', (line) => {
      this.#lines.push(line)
      if (this.#lines.length > keptLines) this.#lines.shift()
      for (const watch of this.#watchers) watch(line)
    })
  }
}

function endOf(child: ChildProcess): Promise<Exit> {
  return new Promise((resolve) => {
    child.once('exit', (code, signal) => {
      const done = () => {
        clearTimeout(timer)
        resolve({ code, signal })
      }
      const timer = setTimeout(done, lateOutputMs)
      child.once('close', done)
    })
  })
}
