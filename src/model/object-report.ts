/** What this product says about an object in the object's own status. */
export interface ObjectReport {
  /** False when a part of the object is not in force here. */
  readonly isInForce: boolean
  /** Says which part, and why. */
  readonly message: string
}
