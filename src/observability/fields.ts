/** Every field that a log line may carry. A new name is a decision: operators build searches on these. */
export interface LogFields {
  /** The part that speaks: a folder of `src`. */
  readonly component?: string
  readonly error?: unknown
  /** `namespace/service:port/protocol`. */
  readonly servicePort?: string
  /** `node/address:port`. */
  readonly backend?: string
  readonly node?: string
  readonly peer?: string
  /** How a flow travels: `local`, `lan`, `relayed via NAME`. */
  readonly path?: string
  /** Peer addresses, as text. */
  readonly address?: string
  readonly file?: string
  readonly count?: number
  readonly durationMs?: number
  readonly reason?: string
  readonly remedy?: string
  readonly version?: string
  readonly interface?: string
  readonly task?: string
}
