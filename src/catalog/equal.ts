/** True when two values made of plain objects, arrays and primitives hold the same data. */
export function isEqualData(left: unknown, right: unknown): boolean {
  if (left === right) return true
  if (Array.isArray(left) || Array.isArray(right)) return Array.isArray(left) && areEqualLists(left, right)
  return isRecord(left) && isRecord(right) && areEqualRecords(left, right)
}

function areEqualLists(left: readonly unknown[], right: unknown): boolean {
  if (!Array.isArray(right) || left.length !== right.length) return false
  return left.every((item, index) => isEqualData(item, right[index]))
}

function areEqualRecords(left: Readonly<Record<string, unknown>>, right: Readonly<Record<string, unknown>>): boolean {
  const keys = Object.keys(left)
  if (keys.length !== Object.keys(right).length) return false
  return keys.every((key) => key in right && isEqualData(left[key], right[key]))
}

function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null
}
