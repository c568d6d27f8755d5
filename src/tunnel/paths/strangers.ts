import type { OpenMessages } from '../flows/open-message.ts'

/** Nodes that sign no records, and other messages by which they open flows. */
export interface Strangers {
  identityOf(nodeName: string): Promise<string>
  readonly protocol: string
  readonly messages: OpenMessages
  /** Told of each peer that has agreed to that protocol only. */
  noteSpoken(peerId: string): void
}
