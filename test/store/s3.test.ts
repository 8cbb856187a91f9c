import { freshBucket, openBucket, testServer } from '../support/buckets.ts';
import { describeConformance } from './conformance.ts';

describeConformance('S3 on Ceph RGW', async () => openBucket(testServer(), await freshBucket()));
