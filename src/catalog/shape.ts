/** What a JSON value must be at least to pass as a `T`: every required field, to the leaves. */
export type Shape<T> = T extends string
  ? 'string'
  : T extends number
    ? 'number'
    : T extends boolean
      ? 'boolean'
      : T extends readonly (infer Item)[]
        ? readonly [Shape<Item>]
        : string extends keyof T
          ? 'record'
          : { readonly [K in RequiredKeys<T>]: Shape<T[K]> }

type RequiredKeys<T> = { [K in keyof T]-?: object extends Pick<T, K> ? never : K }[keyof T]

type AnyShape = string | readonly [AnyShape] | { readonly [field: string]: AnyShape }

/** True when the value has at least that shape; fields that the shape does not name are not looked at. */
export function hasShape(value: unknown, shape: AnyShape): boolean {
  if (shape === 'record') return isRecord(value)
  if (typeof shape === 'string') return typeof value === shape
  if (isList(shape)) return Array.isArray(value) && value.every((item) => hasShape(item, shape[0]))
  if (!isRecord(value)) return false
  for (const field in shape) {
    if (!hasShape(value[field], shape[field] ?? '')) return false
  }
  return true
}

/** True for what `{}` in JSON becomes. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isList(shape: AnyShape): shape is readonly [AnyShape] {
  return Array.isArray(shape)
}
