/** A core/v1 Secret; only gateways read any, and only those that Gateways name. */
export interface Secret {
  readonly namespace: string
  readonly name: string
  /** Values as the API gives them: base64 text. Never logged, never stored on disk. */
  readonly data: Readonly<Record<string, string>>
}
