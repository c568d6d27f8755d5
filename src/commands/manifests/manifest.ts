import { Document } from 'yaml'

/** A Kubernetes object as it is sent to the API. */
export interface KubeObject {
  readonly apiVersion: string
  readonly kind: string
  readonly metadata: KubeMetadata
  readonly [field: string]: unknown
}

/** The part of `metadata` that whoever applies an object sets. */
export interface KubeMetadata {
  readonly name: string
  readonly namespace?: string
  readonly labels?: Readonly<Record<string, string>>
  readonly annotations?: Readonly<Record<string, string>>
}

/** One object of a manifest, with what a person should know about it. */
export interface ManifestEntry {
  readonly comment?: string
  readonly object: KubeObject
}

/** What the objects have in common. */
export interface ManifestSettings {
  readonly namespace: string
  readonly image: string
  /** `host[:port][/p2p/PEER_ID]`, as agents have them in their configuration; at least one. */
  readonly servers: readonly [string, ...string[]]
  /** The Secret's value in base64; undefined leaves the Secret out. */
  readonly psk: string | undefined
}

/** The labels of the Go system's objects, so that its tools and ours find either. */
export function labelsOf(component: string): Readonly<Record<string, string>> {
  return { 'k8s-app': 'kubeedge', kubeedge: component }
}

/** One YAML document for each entry, ready for `kubectl apply`. */
export function renderManifest(entries: readonly ManifestEntry[]): string {
  return entries.map(renderEntry).join('---\n')
}

function renderEntry({ comment, object }: ManifestEntry): string {
  const document = new Document(object, { aliasDuplicateObjects: false })
  if (comment !== undefined && document.contents !== null) document.contents.commentBefore = comment.replace(/^/gm, ' ')
  return document.toString({ lineWidth: 120 })
}
