/**
 * Turns an origin of Kubernetes objects into typed objects in an `ObjectSink`: an API server or KubeEdge's metaServer,
 * listed and watched, or a watched folder of manifests. Text and JSON become types here and nowhere else.
 * It keeps no index and answers no question about objects; `catalog/` does.
 *
 * Read next: `object-source.ts`, `api/reflector.ts`, `manifests/manifests-source.ts`, `objects/service.ts`.
 *
 * @module
 */
export { type ApiSourceOptions, startApiSource } from './api/api-source.ts'
export { ManifestsDirectoryError } from './manifests/errors.ts'
export { type ManifestsSourceOptions, startManifestsSource } from './manifests/manifests-source.ts'
export type * from './object-source.ts'
export { parseDestinationRule } from './objects/destination-rule.ts'
export { parseEndpointSlice } from './objects/endpoint-slice.ts'
export { parseEndpoints } from './objects/endpoints.ts'
export { type FieldPath, ObjectParseError } from './objects/field.ts'
export { parseNode } from './objects/node.ts'
export { parsePod } from './objects/pod.ts'
export { parseService } from './objects/service.ts'
