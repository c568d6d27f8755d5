import type { ObjectKind } from '../catalog/index.ts'

/** What sources deliver when nobody says what is wanted. */
export const basicKinds: readonly ObjectKind[] = ['nodes', 'services', 'endpointSlices']
