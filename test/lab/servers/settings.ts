import type { Server } from 'node:net'
import process from 'node:process'

/** What a test server is told as JSON in its first argument. */
export interface Settings {
  readonly name: string
  readonly address: string
  readonly port: number
  readonly answerBytes: number
  readonly delayMs: number
}

/** Reads the settings of this process. */
export function readSettings(): Settings {
  const settings: Settings = JSON.parse(process.argv[2] ?? '')
  return settings
}

/** Listens and says so, which is what the lab waits for. */
export function listen(server: Server, { address, port }: Pick<Settings, 'address' | 'port'>, backlog = 511): void {
  server.listen({ host: address, port, backlog }, () => console.log(`listening on ${address}:${port}`))
}
