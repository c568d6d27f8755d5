/** There are more ServicePorts that need an address of the synthetic range than the range holds. */
export class SyntheticRangeFullError extends Error {
  override readonly name = 'SyntheticRangeFullError'
  readonly code = 'EDGEMESH_SYNTHETIC_RANGE_FULL'
  readonly remedy = 'choose a larger modules.edgeProxy.syntheticRange'

  constructor(range: string, missing: number) {
    super(
      `Cannot give ${missing} ServicePorts an address of ${range}: the range is full; choose a larger modules.edgeProxy.syntheticRange`,
    )
  }
}
