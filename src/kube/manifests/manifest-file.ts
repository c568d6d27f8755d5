import type { KubeObjects, ObjectKind } from '../../catalog/index.ts'
import type { ManifestProblem } from '../object-source.ts'
import { parseEndpointSlice } from '../objects/endpoint-slice.ts'
import { parseEndpoints } from '../objects/endpoints.ts'
import { Field, type FieldPath, ObjectParseError } from '../objects/field.ts'
import { parseIdentity } from '../objects/metadata.ts'
import { parseNode } from '../objects/node.ts'
import { parseService } from '../objects/service.ts'
import { type ManifestDocument, readDocuments } from './documents.ts'

/** An object for the sink, with its kind. */
export type SinkObject = { [K in ObjectKind]: { readonly kind: K; readonly object: KubeObjects[K] } }[ObjectKind]

/** One object of a file; `id` names it for people and tells when two files define the same. */
export interface ManifestEntry {
  readonly id: string
  readonly objects: readonly SinkObject[]
}

/** What a file says. Objects of kinds that are not used are left out silently. */
export interface ManifestFile {
  readonly entries: readonly ManifestEntry[]
  readonly problems: readonly ManifestProblem[]
}

/** Reads the text of one manifest file: YAML documents or JSON, single objects or lists. Never throws. */
export function parseManifestFile(file: string, text: string): ManifestFile {
  const entries: ManifestEntry[] = []
  const problems: ManifestProblem[] = []
  for (const document of readDocuments(file, text)) {
    const { line, message } = document as Partial<{ line: number; message: string }>
    if (line !== undefined && message !== undefined) problems.push({ file, line, message })
    else readObjects(file, document as Readable, { entries, problems })
  }
  return { entries, problems }
}

type Readable = Exclude<ManifestDocument, { readonly message: string }>

function readObjects(
  file: string,
  document: Readable,
  into: { entries: ManifestEntry[]; problems: ManifestProblem[] },
): void {
  if (document.value === null || document.value === undefined) return
  for (const found of objectsIn(document.value)) {
    try {
      into.entries.push(...parseEntry(found))
    } catch (error) {
      if (!(error instanceof ObjectParseError)) throw error
      into.problems.push({ file, line: document.lineOf([...found.path, ...error.path]), message: error.message })
    }
  }
}

interface FoundObject {
  readonly apiVersion: string
  readonly kind: string
  readonly value: unknown
  readonly path: FieldPath
}

/** The object itself, or the items of a List; items of a typed list need not repeat their kind. */
function objectsIn(value: unknown): FoundObject[] {
  const { kind, apiVersion, items } = (typeof value === 'object' ? value : {}) as Readonly<Record<string, unknown>>
  if (typeof kind !== 'string' || !kind.endsWith('List') || !Array.isArray(items)) return [foundObject(value, [])]
  const itemKind = kind === 'List' ? {} : { kind: kind.slice(0, -'List'.length), apiVersion }
  return items.map((item: unknown, index) => foundObject(item, ['items', index], itemKind))
}

function foundObject(value: unknown, path: FieldPath, defaults: Readonly<Record<string, unknown>> = {}): FoundObject {
  const fields = typeof value === 'object' ? { ...defaults, ...value } : {}
  const { kind, apiVersion } = fields as Readonly<Record<string, unknown>>
  return { apiVersion: String(apiVersion ?? ''), kind: String(kind ?? ''), value, path }
}

function parseEntry({ apiVersion, kind, value }: FoundObject): ManifestEntry[] {
  if (kind === '') throw new ObjectParseError(['kind'], undefined, 'is missing, so this is no Kubernetes object')
  const parse = parsers[`${apiVersion} ${kind}`]
  if (parse === undefined) return []
  const objects = parse(value)
  return [{ id: `${kind} ${nameOf(kind, value)}`, objects }]
}

function nameOf(kind: string, value: unknown): string {
  const { namespace, name } = parseIdentity(new Field(value))
  return kind === 'Node' ? name : `${namespace}/${name}`
}

const parseSlice = (value: unknown): SinkObject[] => {
  const object = parseEndpointSlice(value)
  return object === undefined ? [] : [{ kind: 'endpointSlices', object }]
}

const parsers: Readonly<Record<string, (value: unknown) => SinkObject[]>> = {
  'v1 Service': (value) => [{ kind: 'services', object: parseServiceOfFolder(value) }],
  'v1 Endpoints': (value) => parseEndpoints(value).map((object) => ({ kind: 'endpointSlices', object })),
  'v1 Node': (value) => [{ kind: 'nodes', object: parseNode(value) }],
  'discovery.k8s.io/v1 EndpointSlice': parseSlice,
  'discovery.k8s.io/v1beta1 EndpointSlice': parseSlice,
}

function parseServiceOfFolder(value: unknown) {
  const service = parseService(value)
  if (service.type !== 'ExternalName' && !service.headless && service.clusterIPs.length === 0) {
    const problem = 'must be an address or None; in a folder of manifests nothing allocates one'
    throw new ObjectParseError(['spec', 'clusterIP'], undefined, problem)
  }
  return service
}
