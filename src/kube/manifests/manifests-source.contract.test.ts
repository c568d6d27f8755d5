import { mkdir, mkdtemp, rename, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { silentLogger } from '../../observability/index.ts'
import { startManifestsSource } from '../index.ts'
import {
  describeMoreKinds,
  describeObjectSource,
  type OriginUnderTest,
  type WrittenObject,
} from '../object-source.contract.ts'

const fileOf = ({ kind, metadata }: WrittenObject) => `${kind}-${metadata.name}.json`

async function createFolder(): Promise<OriginUnderTest> {
  const parent = await mkdtemp(join(tmpdir(), 'manifests-'))
  const directory = join(parent, 'folder')
  await mkdir(directory)
  return {
    start: (sink, kinds) =>
      startManifestsSource({ directory, sink, logger: silentLogger, pollMs: 20, ...(kinds && { kinds }) }),
    write: (object) => writeFile(join(directory, fileOf(object)), JSON.stringify(object)),
    delete: (object) => rm(join(directory, fileOf(object))),
    goAway: () => rename(directory, `${directory}-away`),
    comeBack: () => rename(`${directory}-away`, directory),
    [Symbol.asyncDispose]: () => rm(parent, { recursive: true, force: true }),
  }
}

describeObjectSource('a folder of manifests', createFolder)
describeMoreKinds('a folder of manifests', createFolder)
