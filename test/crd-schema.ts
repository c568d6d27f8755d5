/** Enough of OpenAPI v3 to say what an API server says of a custom resource: types and required fields. */

interface Schema {
  readonly type?: string
  readonly properties?: Readonly<Record<string, Schema>>
  readonly additionalProperties?: Schema
  readonly items?: Schema
  readonly required?: readonly string[]
  readonly 'x-kubernetes-preserve-unknown-fields'?: boolean
}

interface Definition {
  readonly spec: {
    readonly group: string
    readonly names: { readonly kind: string }
    readonly versions: readonly { readonly name: string; readonly schema: { readonly openAPIV3Schema: Schema } }[]
  }
}

/** What an API server with these definitions has against the object, by path; it would drop or refuse it. */
export function problemsOf(definitions: readonly unknown[], object: unknown): string[] {
  const { apiVersion, kind, metadata, ...rest } = object as Record<string, unknown>
  const version = (definitions as Definition[])
    .filter(({ spec }) => spec.names.kind === kind)
    .flatMap(({ spec }) => spec.versions.map((each) => ({ ...each, apiVersion: `${spec.group}/${each.name}` })))
    .find((each) => each.apiVersion === apiVersion)
  if (version === undefined) return [`${String(apiVersion)} ${String(kind)} is not served`]
  return check(version.schema.openAPIV3Schema, rest, '')
}

function check(schema: Schema, value: unknown, path: string): string[] {
  const type = typeOf(value)
  const isRight = type === schema.type || (type === 'integer' && schema.type === 'number')
  if (schema.type !== undefined && !isRight) return [`${path}: is ${type}, not ${schema.type}`]
  if (Array.isArray(value)) return value.flatMap((item, index) => check(schema.items ?? {}, item, `${path}[${index}]`))
  if (type !== 'object') return []
  const fields = value as Readonly<Record<string, unknown>>
  const missing = (schema.required ?? []).filter((name) => fields[name] === undefined)
  return [
    ...missing.map((name) => `${path}.${name}: is missing`),
    ...Object.entries(fields).flatMap(([name, inner]) => checkField(schema, name, inner, `${path}.${name}`)),
  ]
}

function checkField(schema: Schema, name: string, value: unknown, path: string): string[] {
  const known = schema.properties?.[name] ?? schema.additionalProperties
  if (known !== undefined) return check(known, value, path)
  return schema['x-kubernetes-preserve-unknown-fields'] === true ? [] : [`${path}: is dropped`]
}

function typeOf(value: unknown): string {
  if (Array.isArray(value)) return 'array'
  if (value === null) return 'null'
  if (typeof value === 'number') return Number.isInteger(value) ? 'integer' : 'number'
  return typeof value
}
