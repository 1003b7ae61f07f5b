/* aws_model_table.c: the inputs of all operations: types, bounds, patterns. Written by make_model: do not edit. */
#include "server/aws/aws_model.h"

#include "proto/base.h"

#define BOUNDS(from, to) .bounded = true, .min = from, .max = to
#define MEMBERS(table) .members = table, .n_members = ARRAY_LEN(table)
#define VALUES(table) .values = table, .n_values = ARRAY_LEN(table)

static const struct aws_shape StreamName = {.name = "StreamName", .type = AWS_STRING, BOUNDS(1, 128), .pattern = "[a-zA-Z0-9_.-]+"};
static const struct aws_shape TagKey = {.name = "TagKey", .type = AWS_STRING, BOUNDS(1, 128)};
static const struct aws_shape TagValue = {.name = "TagValue", .type = AWS_STRING, BOUNDS(0, 256)};
static const struct aws_shape TagMap = {.name = "TagMap", .type = AWS_MAP, BOUNDS(1, 200), .key = &TagKey, .item = &TagValue};
static const struct aws_shape StreamARN = {.name = "StreamARN", .type = AWS_STRING, BOUNDS(1, 2048), .pattern = "arn:aws.*:kinesis:.*:\\d{12}:stream/\\S+"};
static const struct aws_shape StreamId = {.name = "StreamId", .type = AWS_STRING, BOUNDS(1, 24), .pattern = "[a-z0-9]{20}-[a-z0-9]{3}"};
static const struct aws_member members_AddTagsToStreamInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_Tags, true, &TagMap},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape AddTagsToStreamInput = {.name = "AddTagsToStreamInput", .type = AWS_STRUCTURE, MEMBERS(members_AddTagsToStreamInput)};
static const struct aws_shape ChannelName = {.name = "ChannelName", .type = AWS_STRING, BOUNDS(1, 128), .pattern = "[a-zA-Z0-9_.-]+"};
static const struct aws_shape RoleARN = {.name = "RoleARN", .type = AWS_STRING, BOUNDS(1, 512), .pattern = "arn:aws[-a-z0-9]*:iam::\\d{12}:role/[a-zA-Z_0-9+=,.@\\-_/]+"};
static const char *const values_RecordFormatType[] = {"GSR_JSON", "JSON", "STRING", "BYTE_ARRAY"};
static const struct aws_shape RecordFormatType = {.name = "RecordFormatType", .type = AWS_STRING, VALUES(values_RecordFormatType)};
static const struct aws_shape GSRSchemaARN = {.name = "GSRSchemaARN", .type = AWS_STRING, BOUNDS(1, 512),
    .pattern = "arn:aws[-a-z0-9]*:glue:[-a-z0-9]+:\\d{12}:schema/[-a-zA-Z0-9_$#.]+/[-a-zA-Z0-9_$#.]+"};
static const struct aws_member members_RecordConfiguration[] = {
    {AWS_M_RecordFormatType, true, &RecordFormatType},
    {AWS_M_GSRSchemaARN, false, &GSRSchemaARN},
};
static const struct aws_shape RecordConfiguration = {.name = "RecordConfiguration", .type = AWS_STRUCTURE, MEMBERS(members_RecordConfiguration)};
static const struct aws_member members_ChannelStreamConfiguration[] = {
    {AWS_M_StreamARN, true, &StreamARN},
    {AWS_M_RecordConfiguration, true, &RecordConfiguration},
};
static const struct aws_shape ChannelStreamConfiguration = {.name = "ChannelStreamConfiguration", .type = AWS_STRUCTURE, MEMBERS(members_ChannelStreamConfiguration)};
static const struct aws_shape ChannelStreamConfigurationList = {.name = "ChannelStreamConfigurationList", .type = AWS_LIST, BOUNDS(1, 10000),
    .item = &ChannelStreamConfiguration};
static const struct aws_shape DataFreshnessInSeconds = {.name = "DataFreshnessInSeconds", .type = AWS_INTEGER};
static const struct aws_shape BucketARN = {.name = "BucketARN", .type = AWS_STRING, BOUNDS(1, 2048), .pattern = "arn:aws[-a-z0-9]*:s3:::[a-z0-9._-]{3,63}"};
static const struct aws_shape ExpectedBucketOwner = {.name = "ExpectedBucketOwner", .type = AWS_STRING, BOUNDS(12, 12), .pattern = "\\d{12}"};
static const struct aws_shape S3ErrorOutputPrefix = {.name = "S3ErrorOutputPrefix", .type = AWS_STRING, BOUNDS(1, 512), .pattern = "[0-9A-Za-z!\\-_'.*()\\/]+"};
static const struct aws_member members_DeadLetterQueueS3Configuration[] = {
    {AWS_M_BucketARN, true, &BucketARN},
    {AWS_M_ExpectedBucketOwner, true, &ExpectedBucketOwner},
    {AWS_M_ErrorOutputPrefix, false, &S3ErrorOutputPrefix},
};
static const struct aws_shape DeadLetterQueueS3Configuration = {.name = "DeadLetterQueueS3Configuration", .type = AWS_STRUCTURE,
    MEMBERS(members_DeadLetterQueueS3Configuration)};
static const struct aws_shape S3OutputKeyTemplate = {.name = "S3OutputKeyTemplate", .type = AWS_STRING, BOUNDS(1, 1024), .pattern = "[0-9A-Za-z!\\-_'.*()\\/=:{}]+"};
static const char *const values_S3StorageClass[] = {"STANDARD", "INTELLIGENT_TIERING", "GLACIER_IR"};
static const struct aws_shape S3StorageClass = {.name = "S3StorageClass", .type = AWS_STRING, VALUES(values_S3StorageClass)};
static const char *const values_S3CompressionType[] = {"NONE", "GZIP", "ZSTD"};
static const struct aws_shape S3CompressionType = {.name = "S3CompressionType", .type = AWS_STRING, VALUES(values_S3CompressionType)};
static const struct aws_member members_S3StorageConfiguration[] = {
    {AWS_M_BucketARN, true, &BucketARN},
    {AWS_M_ExpectedBucketOwner, true, &ExpectedBucketOwner},
    {AWS_M_OutputKeyTemplate, false, &S3OutputKeyTemplate},
    {AWS_M_StorageClass, false, &S3StorageClass},
    {AWS_M_CompressionType, true, &S3CompressionType},
};
static const struct aws_shape S3StorageConfiguration = {.name = "S3StorageConfiguration", .type = AWS_STRUCTURE, MEMBERS(members_S3StorageConfiguration)};
static const struct aws_member members_S3DestinationConfiguration[] = {
    {AWS_M_DataFreshnessInSeconds, false, &DataFreshnessInSeconds},
    {AWS_M_DeadLetterQueueS3Configuration, false, &DeadLetterQueueS3Configuration},
    {AWS_M_StorageConfiguration, true, &S3StorageConfiguration},
};
static const struct aws_shape S3DestinationConfiguration = {.name = "S3DestinationConfiguration", .type = AWS_STRUCTURE, MEMBERS(members_S3DestinationConfiguration)};
static const struct aws_shape TableBucketARN = {.name = "TableBucketARN", .type = AWS_STRING, BOUNDS(1, 2048),
    .pattern = "arn:aws[-a-z0-9]*:s3tables:[-a-z0-9]+:\\d{12}:bucket/[a-z0-9_-]{3,63}"};
static const struct aws_shape S3TablesNamespace = {.name = "S3TablesNamespace", .type = AWS_STRING, BOUNDS(1, 255), .pattern = "[0-9a-z_]+"};
static const struct aws_shape S3TablesTableName = {.name = "S3TablesTableName", .type = AWS_STRING, BOUNDS(1, 255), .pattern = "[0-9a-z_]+"};
static const char *const values_S3TablesCompressionType[] = {"NONE", "ZSTD", "SNAPPY"};
static const struct aws_shape S3TablesCompressionType = {.name = "S3TablesCompressionType", .type = AWS_STRING, VALUES(values_S3TablesCompressionType)};
static const char *const values_PartitionTransform[] = {"TIME_HOUR"};
static const struct aws_shape PartitionTransform = {.name = "PartitionTransform", .type = AWS_STRING, VALUES(values_PartitionTransform)};
static const struct aws_shape PartitionSourceName = {.name = "PartitionSourceName", .type = AWS_STRING, BOUNDS(1, 255), .pattern = "[a-zA-Z0-9\\.\\_]+"};
static const struct aws_member members_PartitionField[] = {
    {AWS_M_Transform, true, &PartitionTransform},
    {AWS_M_SourceName, true, &PartitionSourceName},
};
static const struct aws_shape PartitionField = {.name = "PartitionField", .type = AWS_STRUCTURE, MEMBERS(members_PartitionField)};
static const struct aws_shape PartitionFieldList = {.name = "PartitionFieldList", .type = AWS_LIST, BOUNDS(1, 10), .item = &PartitionField};
static const struct aws_member members_PartitionSpec[] = {
    {AWS_M_PartitionFields, true, &PartitionFieldList},
};
static const struct aws_shape PartitionSpec = {.name = "PartitionSpec", .type = AWS_STRUCTURE, MEMBERS(members_PartitionSpec)};
static const struct aws_member members_S3TablesConfiguration[] = {
    {AWS_M_TableBucketARN, true, &TableBucketARN},
    {AWS_M_Namespace, true, &S3TablesNamespace},
    {AWS_M_TableName, true, &S3TablesTableName},
    {AWS_M_CompressionType, true, &S3TablesCompressionType},
    {AWS_M_PartitionSpec, false, &PartitionSpec},
};
static const struct aws_shape S3TablesConfiguration = {.name = "S3TablesConfiguration", .type = AWS_STRUCTURE, MEMBERS(members_S3TablesConfiguration)};
static const struct aws_shape S3TablesConfigurationList = {.name = "S3TablesConfigurationList", .type = AWS_LIST, BOUNDS(1, 10000), .item = &S3TablesConfiguration};
static const struct aws_member members_S3TablesDestinationConfiguration[] = {
    {AWS_M_DataFreshnessInSeconds, false, &DataFreshnessInSeconds},
    {AWS_M_DeadLetterQueueS3Configuration, true, &DeadLetterQueueS3Configuration},
    {AWS_M_S3TablesConfigurationList, true, &S3TablesConfigurationList},
};
static const struct aws_shape S3TablesDestinationConfiguration = {.name = "S3TablesDestinationConfiguration", .type = AWS_STRUCTURE,
    MEMBERS(members_S3TablesDestinationConfiguration)};
static const char *const values_ChannelEncryptionType[] = {"KMS"};
static const struct aws_shape ChannelEncryptionType = {.name = "ChannelEncryptionType", .type = AWS_STRING, VALUES(values_ChannelEncryptionType)};
static const struct aws_shape KeyId = {.name = "KeyId", .type = AWS_STRING, BOUNDS(1, 2048)};
static const struct aws_member members_ChannelEncryptionConfiguration[] = {
    {AWS_M_EncryptionType, true, &ChannelEncryptionType},
    {AWS_M_KeyId, true, &KeyId},
};
static const struct aws_shape ChannelEncryptionConfiguration = {.name = "ChannelEncryptionConfiguration", .type = AWS_STRUCTURE,
    MEMBERS(members_ChannelEncryptionConfiguration)};
static const struct aws_shape BooleanObject = {.name = "BooleanObject", .type = AWS_BOOLEAN};
static const struct aws_shape CloudWatchLogGroupName = {.name = "CloudWatchLogGroupName", .type = AWS_STRING, BOUNDS(1, 512), .pattern = "[\\.\\-_/#A-Za-z0-9]+"};
static const struct aws_shape CloudWatchLogStreamName = {.name = "CloudWatchLogStreamName", .type = AWS_STRING, BOUNDS(1, 512), .pattern = "[^:*]*"};
static const struct aws_member members_CloudWatchLogs[] = {
    {AWS_M_Enabled, true, &BooleanObject},
    {AWS_M_LogGroupName, false, &CloudWatchLogGroupName},
    {AWS_M_LogStreamName, false, &CloudWatchLogStreamName},
};
static const struct aws_shape CloudWatchLogs = {.name = "CloudWatchLogs", .type = AWS_STRUCTURE, MEMBERS(members_CloudWatchLogs)};
static const struct aws_member members_ChannelLoggingConfiguration[] = {
    {AWS_M_CloudWatchLogs, true, &CloudWatchLogs},
};
static const struct aws_shape ChannelLoggingConfiguration = {.name = "ChannelLoggingConfiguration", .type = AWS_STRUCTURE, MEMBERS(members_ChannelLoggingConfiguration)};
static const struct aws_member members_CreateChannelInput[] = {
    {AWS_M_ChannelName, true, &ChannelName},
    {AWS_M_ServiceExecutionRoleARN, true, &RoleARN},
    {AWS_M_StreamConfigurationList, true, &ChannelStreamConfigurationList},
    {AWS_M_S3DestinationConfiguration, false, &S3DestinationConfiguration},
    {AWS_M_S3TablesDestinationConfiguration, false, &S3TablesDestinationConfiguration},
    {AWS_M_EncryptionConfiguration, false, &ChannelEncryptionConfiguration},
    {AWS_M_Tags, false, &TagMap},
    {AWS_M_LoggingConfiguration, false, &ChannelLoggingConfiguration},
};
static const struct aws_shape CreateChannelInput = {.name = "CreateChannelInput", .type = AWS_STRUCTURE, MEMBERS(members_CreateChannelInput)};
static const struct aws_shape PositiveIntegerObject = {.name = "PositiveIntegerObject", .type = AWS_INTEGER, BOUNDS(1, INT64_MAX)};
static const char *const values_StreamMode[] = {"PROVISIONED", "ON_DEMAND"};
static const struct aws_shape StreamMode = {.name = "StreamMode", .type = AWS_STRING, VALUES(values_StreamMode)};
static const struct aws_member members_StreamModeDetails[] = {
    {AWS_M_StreamMode, true, &StreamMode},
};
static const struct aws_shape StreamModeDetails = {.name = "StreamModeDetails", .type = AWS_STRUCTURE, MEMBERS(members_StreamModeDetails)};
static const struct aws_shape NaturalIntegerObject = {.name = "NaturalIntegerObject", .type = AWS_INTEGER, BOUNDS(0, INT64_MAX)};
static const struct aws_shape MaxRecordSizeInKiB = {.name = "MaxRecordSizeInKiB", .type = AWS_INTEGER, BOUNDS(1024, 10240)};
static const char *const values_RecordDistributionStrategy[] = {"AUTO", "USER_PARTITION_KEY"};
static const struct aws_shape RecordDistributionStrategy = {.name = "RecordDistributionStrategy", .type = AWS_STRING, VALUES(values_RecordDistributionStrategy)};
static const struct aws_member members_CreateStreamInput[] = {
    {AWS_M_StreamName, true, &StreamName},
    {AWS_M_ShardCount, false, &PositiveIntegerObject},
    {AWS_M_StreamModeDetails, false, &StreamModeDetails},
    {AWS_M_Tags, false, &TagMap},
    {AWS_M_WarmThroughputMiBps, false, &NaturalIntegerObject},
    {AWS_M_MaxRecordSizeInKiB, false, &MaxRecordSizeInKiB},
    {AWS_M_RecordDistributionStrategy, false, &RecordDistributionStrategy},
};
static const struct aws_shape CreateStreamInput = {.name = "CreateStreamInput", .type = AWS_STRUCTURE, MEMBERS(members_CreateStreamInput)};
static const struct aws_shape RetentionPeriodHours = {.name = "RetentionPeriodHours", .type = AWS_INTEGER};
static const struct aws_member members_DecreaseStreamRetentionPeriodInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_RetentionPeriodHours, true, &RetentionPeriodHours},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DecreaseStreamRetentionPeriodInput = {.name = "DecreaseStreamRetentionPeriodInput", .type = AWS_STRUCTURE,
    MEMBERS(members_DecreaseStreamRetentionPeriodInput)};
static const struct aws_shape ChannelARN = {.name = "ChannelARN", .type = AWS_STRING, BOUNDS(1, 2048), .pattern = "arn:aws.*:kinesis:.*:\\d{12}:channel/\\S+"};
static const struct aws_member members_DeleteChannelInput[] = {
    {AWS_M_ChannelARN, true, &ChannelARN},
};
static const struct aws_shape DeleteChannelInput = {.name = "DeleteChannelInput", .type = AWS_STRUCTURE, MEMBERS(members_DeleteChannelInput)};
static const struct aws_shape ResourceARN = {.name = "ResourceARN", .type = AWS_STRING, BOUNDS(1, 2048),
    .pattern = "arn:aws.*:kinesis:.*:\\d{12}:.*(stream|channel|queue)/\\S+",
    .match = "arn:aws.*:kinesis:.*:\\d{12}:.*stream/\\S+|arn:aws.*:kinesis:.*:\\d{12}:.*channel/\\S+|arn:aws.*:kinesis:.*:\\d{12}:.*queue/\\S+"};
static const struct aws_member members_DeleteResourcePolicyInput[] = {
    {AWS_M_ResourceARN, true, &ResourceARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DeleteResourcePolicyInput = {.name = "DeleteResourcePolicyInput", .type = AWS_STRUCTURE, MEMBERS(members_DeleteResourcePolicyInput)};
static const struct aws_member members_DeleteStreamInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_EnforceConsumerDeletion, false, &BooleanObject},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DeleteStreamInput = {.name = "DeleteStreamInput", .type = AWS_STRUCTURE, MEMBERS(members_DeleteStreamInput)};
static const struct aws_shape ConsumerName = {.name = "ConsumerName", .type = AWS_STRING, BOUNDS(1, 128), .pattern = "[a-zA-Z0-9_.-]+"};
static const struct aws_shape ConsumerARN = {.name = "ConsumerARN", .type = AWS_STRING, BOUNDS(1, 2048),
    .pattern = "(arn):aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+",
    .match = "arn:aws.*:kinesis:.*:\\d{12}:.*stream\\/[a-zA-Z0-9_.-]+\\/consumer\\/[a-zA-Z0-9_.-]+:[0-9]+"};
static const struct aws_member members_DeregisterStreamConsumerInput[] = {
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_ConsumerName, false, &ConsumerName},
    {AWS_M_ConsumerARN, false, &ConsumerARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DeregisterStreamConsumerInput = {.name = "DeregisterStreamConsumerInput", .type = AWS_STRUCTURE,
    MEMBERS(members_DeregisterStreamConsumerInput)};
static const struct aws_shape DescribeAccountSettingsInput = {.name = "DescribeAccountSettingsInput", .type = AWS_STRUCTURE};
static const struct aws_member members_DescribeChannelInput[] = {
    {AWS_M_ChannelARN, true, &ChannelARN},
};
static const struct aws_shape DescribeChannelInput = {.name = "DescribeChannelInput", .type = AWS_STRUCTURE, MEMBERS(members_DescribeChannelInput)};
static const struct aws_shape DescribeLimitsInput = {.name = "DescribeLimitsInput", .type = AWS_STRUCTURE};
static const struct aws_shape DescribeStreamInputLimit = {.name = "DescribeStreamInputLimit", .type = AWS_INTEGER, BOUNDS(1, 10000)};
static const struct aws_shape ShardId = {.name = "ShardId", .type = AWS_STRING, BOUNDS(1, 128), .pattern = "[a-zA-Z0-9_.-]+"};
static const struct aws_member members_DescribeStreamInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_Limit, false, &DescribeStreamInputLimit},
    {AWS_M_ExclusiveStartShardId, false, &ShardId},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DescribeStreamInput = {.name = "DescribeStreamInput", .type = AWS_STRUCTURE, MEMBERS(members_DescribeStreamInput)};
static const struct aws_member members_DescribeStreamConsumerInput[] = {
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_ConsumerName, false, &ConsumerName},
    {AWS_M_ConsumerARN, false, &ConsumerARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DescribeStreamConsumerInput = {.name = "DescribeStreamConsumerInput", .type = AWS_STRUCTURE, MEMBERS(members_DescribeStreamConsumerInput)};
static const struct aws_member members_DescribeStreamSummaryInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DescribeStreamSummaryInput = {.name = "DescribeStreamSummaryInput", .type = AWS_STRUCTURE, MEMBERS(members_DescribeStreamSummaryInput)};
static const char *const values_MetricsName[] = {
    "IncomingBytes", "IncomingRecords", "OutgoingBytes", "OutgoingRecords", "WriteProvisionedThroughputExceeded",
    "ReadProvisionedThroughputExceeded", "IteratorAgeMilliseconds", "ALL"
};
static const struct aws_shape MetricsName = {.name = "MetricsName", .type = AWS_STRING, VALUES(values_MetricsName)};
static const struct aws_shape MetricsNameList = {.name = "MetricsNameList", .type = AWS_LIST, BOUNDS(1, 7), .item = &MetricsName};
static const struct aws_member members_DisableEnhancedMonitoringInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_ShardLevelMetrics, true, &MetricsNameList},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape DisableEnhancedMonitoringInput = {.name = "DisableEnhancedMonitoringInput", .type = AWS_STRUCTURE,
    MEMBERS(members_DisableEnhancedMonitoringInput)};
static const struct aws_member members_EnableEnhancedMonitoringInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_ShardLevelMetrics, true, &MetricsNameList},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape EnableEnhancedMonitoringInput = {.name = "EnableEnhancedMonitoringInput", .type = AWS_STRUCTURE,
    MEMBERS(members_EnableEnhancedMonitoringInput)};
static const struct aws_shape ShardIterator = {.name = "ShardIterator", .type = AWS_STRING, BOUNDS(1, 512)};
static const struct aws_shape GetRecordsInputLimit = {.name = "GetRecordsInputLimit", .type = AWS_INTEGER, BOUNDS(1, 10000)};
static const struct aws_member members_GetRecordsInput[] = {
    {AWS_M_ShardIterator, true, &ShardIterator},
    {AWS_M_Limit, false, &GetRecordsInputLimit},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_DryRun, false, &BooleanObject},
};
static const struct aws_shape GetRecordsInput = {.name = "GetRecordsInput", .type = AWS_STRUCTURE, MEMBERS(members_GetRecordsInput)};
static const struct aws_member members_GetResourcePolicyInput[] = {
    {AWS_M_ResourceARN, true, &ResourceARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape GetResourcePolicyInput = {.name = "GetResourcePolicyInput", .type = AWS_STRUCTURE, MEMBERS(members_GetResourcePolicyInput)};
static const char *const values_ShardIteratorType[] = {"AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER", "TRIM_HORIZON", "LATEST", "AT_TIMESTAMP"};
static const struct aws_shape ShardIteratorType = {.name = "ShardIteratorType", .type = AWS_STRING, VALUES(values_ShardIteratorType)};
static const struct aws_shape SequenceNumber = {.name = "SequenceNumber", .type = AWS_STRING, .pattern = "0|([1-9]\\d{0,128})", .match = "0|[1-9]\\d{0,128}"};
static const struct aws_shape Timestamp = {.name = "Timestamp", .type = AWS_TIMESTAMP};
static const struct aws_member members_GetShardIteratorInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_ShardId, true, &ShardId},
    {AWS_M_ShardIteratorType, true, &ShardIteratorType},
    {AWS_M_StartingSequenceNumber, false, &SequenceNumber},
    {AWS_M_Timestamp, false, &Timestamp},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_DryRun, false, &BooleanObject},
};
static const struct aws_shape GetShardIteratorInput = {.name = "GetShardIteratorInput", .type = AWS_STRUCTURE, MEMBERS(members_GetShardIteratorInput)};
static const struct aws_member members_IncreaseStreamRetentionPeriodInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_RetentionPeriodHours, true, &RetentionPeriodHours},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape IncreaseStreamRetentionPeriodInput = {.name = "IncreaseStreamRetentionPeriodInput", .type = AWS_STRUCTURE,
    MEMBERS(members_IncreaseStreamRetentionPeriodInput)};
static const struct aws_member members_StreamFilter[] = {
    {AWS_M_StreamARN, true, &StreamARN},
    {AWS_M_StreamCreationTimestamp, false, &Timestamp},
};
static const struct aws_shape StreamFilter = {.name = "StreamFilter", .type = AWS_STRUCTURE, MEMBERS(members_StreamFilter)};
static const struct aws_shape StreamFilterList = {.name = "StreamFilterList", .type = AWS_LIST, BOUNDS(1, 10000), .item = &StreamFilter};
static const struct aws_shape ListChannelsInputLimit = {.name = "ListChannelsInputLimit", .type = AWS_INTEGER, BOUNDS(1, 10000)};
static const struct aws_shape NextToken = {.name = "NextToken", .type = AWS_STRING, BOUNDS(1, 1048576)};
static const struct aws_member members_ListChannelsInput[] = {
    {AWS_M_StreamFilter, false, &StreamFilterList},
    {AWS_M_MaxResults, false, &ListChannelsInputLimit},
    {AWS_M_NextToken, false, &NextToken},
};
static const struct aws_shape ListChannelsInput = {.name = "ListChannelsInput", .type = AWS_STRUCTURE, MEMBERS(members_ListChannelsInput)};
static const struct aws_shape ListShardsInputLimit = {.name = "ListShardsInputLimit", .type = AWS_INTEGER, BOUNDS(1, 10000)};
static const char *const values_ShardFilterType[] = {"AFTER_SHARD_ID", "AT_TRIM_HORIZON", "FROM_TRIM_HORIZON", "AT_LATEST", "AT_TIMESTAMP", "FROM_TIMESTAMP"};
static const struct aws_shape ShardFilterType = {.name = "ShardFilterType", .type = AWS_STRING, VALUES(values_ShardFilterType)};
static const struct aws_member members_ShardFilter[] = {
    {AWS_M_Type, true, &ShardFilterType},
    {AWS_M_ShardId, false, &ShardId},
    {AWS_M_Timestamp, false, &Timestamp},
};
static const struct aws_shape ShardFilter = {.name = "ShardFilter", .type = AWS_STRUCTURE, MEMBERS(members_ShardFilter)};
static const struct aws_member members_ListShardsInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_NextToken, false, &NextToken},
    {AWS_M_ExclusiveStartShardId, false, &ShardId},
    {AWS_M_MaxResults, false, &ListShardsInputLimit},
    {AWS_M_StreamCreationTimestamp, false, &Timestamp},
    {AWS_M_ShardFilter, false, &ShardFilter},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape ListShardsInput = {.name = "ListShardsInput", .type = AWS_STRUCTURE, MEMBERS(members_ListShardsInput)};
static const struct aws_shape ListStreamConsumersInputLimit = {.name = "ListStreamConsumersInputLimit", .type = AWS_INTEGER, BOUNDS(1, 10000)};
static const struct aws_member members_ListStreamConsumersInput[] = {
    {AWS_M_StreamARN, true, &StreamARN},
    {AWS_M_NextToken, false, &NextToken},
    {AWS_M_MaxResults, false, &ListStreamConsumersInputLimit},
    {AWS_M_StreamCreationTimestamp, false, &Timestamp},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape ListStreamConsumersInput = {.name = "ListStreamConsumersInput", .type = AWS_STRUCTURE, MEMBERS(members_ListStreamConsumersInput)};
static const struct aws_shape ListStreamsInputLimit = {.name = "ListStreamsInputLimit", .type = AWS_INTEGER, BOUNDS(1, 10000)};
static const struct aws_member members_ListStreamsInput[] = {
    {AWS_M_Limit, false, &ListStreamsInputLimit},
    {AWS_M_ExclusiveStartStreamName, false, &StreamName},
    {AWS_M_NextToken, false, &NextToken},
};
static const struct aws_shape ListStreamsInput = {.name = "ListStreamsInput", .type = AWS_STRUCTURE, MEMBERS(members_ListStreamsInput)};
static const struct aws_member members_ListTagsForResourceInput[] = {
    {AWS_M_ResourceARN, true, &ResourceARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape ListTagsForResourceInput = {.name = "ListTagsForResourceInput", .type = AWS_STRUCTURE, MEMBERS(members_ListTagsForResourceInput)};
static const struct aws_shape ListTagsForStreamInputLimit = {.name = "ListTagsForStreamInputLimit", .type = AWS_INTEGER, BOUNDS(1, 50)};
static const struct aws_member members_ListTagsForStreamInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_ExclusiveStartTagKey, false, &TagKey},
    {AWS_M_Limit, false, &ListTagsForStreamInputLimit},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape ListTagsForStreamInput = {.name = "ListTagsForStreamInput", .type = AWS_STRUCTURE, MEMBERS(members_ListTagsForStreamInput)};
static const struct aws_member members_MergeShardsInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_ShardToMerge, true, &ShardId},
    {AWS_M_AdjacentShardToMerge, true, &ShardId},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape MergeShardsInput = {.name = "MergeShardsInput", .type = AWS_STRUCTURE, MEMBERS(members_MergeShardsInput)};
static const struct aws_shape Data = {.name = "Data", .type = AWS_BLOB, BOUNDS(0, 10485760)};
static const struct aws_shape PartitionKey = {.name = "PartitionKey", .type = AWS_STRING, BOUNDS(1, 256)};
static const struct aws_shape HashKey = {.name = "HashKey", .type = AWS_STRING, .pattern = "0|([1-9]\\d{0,38})", .match = "0|[1-9]\\d{0,38}"};
static const struct aws_member members_PutRecordInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_Data, true, &Data},
    {AWS_M_PartitionKey, false, &PartitionKey},
    {AWS_M_ExplicitHashKey, false, &HashKey},
    {AWS_M_SequenceNumberForOrdering, false, &SequenceNumber},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_DryRun, false, &BooleanObject},
};
static const struct aws_shape PutRecordInput = {.name = "PutRecordInput", .type = AWS_STRUCTURE, MEMBERS(members_PutRecordInput)};
static const struct aws_member members_PutRecordsRequestEntry[] = {
    {AWS_M_Data, true, &Data},
    {AWS_M_ExplicitHashKey, false, &HashKey},
    {AWS_M_PartitionKey, false, &PartitionKey},
};
static const struct aws_shape PutRecordsRequestEntry = {.name = "PutRecordsRequestEntry", .type = AWS_STRUCTURE, MEMBERS(members_PutRecordsRequestEntry)};
static const struct aws_shape PutRecordsRequestEntryList = {.name = "PutRecordsRequestEntryList", .type = AWS_LIST, BOUNDS(1, 500), .item = &PutRecordsRequestEntry};
static const struct aws_member members_PutRecordsInput[] = {
    {AWS_M_Records, true, &PutRecordsRequestEntryList},
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_DryRun, false, &BooleanObject},
};
static const struct aws_shape PutRecordsInput = {.name = "PutRecordsInput", .type = AWS_STRUCTURE, MEMBERS(members_PutRecordsInput)};
static const struct aws_shape Policy = {.name = "Policy", .type = AWS_STRING};
static const struct aws_member members_PutResourcePolicyInput[] = {
    {AWS_M_ResourceARN, true, &ResourceARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_Policy, true, &Policy},
};
static const struct aws_shape PutResourcePolicyInput = {.name = "PutResourcePolicyInput", .type = AWS_STRUCTURE, MEMBERS(members_PutResourcePolicyInput)};
static const struct aws_member members_RegisterStreamConsumerInput[] = {
    {AWS_M_StreamARN, true, &StreamARN},
    {AWS_M_ConsumerName, true, &ConsumerName},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_Tags, false, &TagMap},
};
static const struct aws_shape RegisterStreamConsumerInput = {.name = "RegisterStreamConsumerInput", .type = AWS_STRUCTURE, MEMBERS(members_RegisterStreamConsumerInput)};
static const struct aws_shape TagKeyList = {.name = "TagKeyList", .type = AWS_LIST, BOUNDS(1, 50), .item = &TagKey};
static const struct aws_member members_RemoveTagsFromStreamInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_TagKeys, true, &TagKeyList},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape RemoveTagsFromStreamInput = {.name = "RemoveTagsFromStreamInput", .type = AWS_STRUCTURE, MEMBERS(members_RemoveTagsFromStreamInput)};
static const struct aws_member members_SplitShardInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_ShardToSplit, true, &ShardId},
    {AWS_M_NewStartingHashKey, true, &HashKey},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape SplitShardInput = {.name = "SplitShardInput", .type = AWS_STRUCTURE, MEMBERS(members_SplitShardInput)};
static const char *const values_EncryptionType[] = {"NONE", "KMS"};
static const struct aws_shape EncryptionType = {.name = "EncryptionType", .type = AWS_STRING, VALUES(values_EncryptionType)};
static const struct aws_member members_StartStreamEncryptionInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_EncryptionType, true, &EncryptionType},
    {AWS_M_KeyId, true, &KeyId},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape StartStreamEncryptionInput = {.name = "StartStreamEncryptionInput", .type = AWS_STRUCTURE, MEMBERS(members_StartStreamEncryptionInput)};
static const struct aws_member members_StopStreamEncryptionInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_EncryptionType, true, &EncryptionType},
    {AWS_M_KeyId, true, &KeyId},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape StopStreamEncryptionInput = {.name = "StopStreamEncryptionInput", .type = AWS_STRUCTURE, MEMBERS(members_StopStreamEncryptionInput)};
static const struct aws_member members_StartingPosition[] = {
    {AWS_M_Type, true, &ShardIteratorType},
    {AWS_M_SequenceNumber, false, &SequenceNumber},
    {AWS_M_Timestamp, false, &Timestamp},
};
static const struct aws_shape StartingPosition = {.name = "StartingPosition", .type = AWS_STRUCTURE, MEMBERS(members_StartingPosition)};
static const struct aws_member members_SubscribeToShardInput[] = {
    {AWS_M_ConsumerARN, true, &ConsumerARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_ShardId, true, &ShardId},
    {AWS_M_StartingPosition, true, &StartingPosition},
    {AWS_M_DryRun, false, &BooleanObject},
};
static const struct aws_shape SubscribeToShardInput = {.name = "SubscribeToShardInput", .type = AWS_STRUCTURE, MEMBERS(members_SubscribeToShardInput)};
static const struct aws_member members_TagResourceInput[] = {
    {AWS_M_Tags, true, &TagMap},
    {AWS_M_ResourceARN, true, &ResourceARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape TagResourceInput = {.name = "TagResourceInput", .type = AWS_STRUCTURE, MEMBERS(members_TagResourceInput)};
static const struct aws_member members_UntagResourceInput[] = {
    {AWS_M_TagKeys, true, &TagKeyList},
    {AWS_M_ResourceARN, true, &ResourceARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape UntagResourceInput = {.name = "UntagResourceInput", .type = AWS_STRUCTURE, MEMBERS(members_UntagResourceInput)};
static const char *const values_MinimumThroughputBillingCommitmentInputStatus[] = {"ENABLED", "DISABLED"};
static const struct aws_shape MinimumThroughputBillingCommitmentInputStatus = {.name = "MinimumThroughputBillingCommitmentInputStatus", .type = AWS_STRING,
    VALUES(values_MinimumThroughputBillingCommitmentInputStatus)};
static const struct aws_member members_MinimumThroughputBillingCommitmentInput[] = {
    {AWS_M_Status, true, &MinimumThroughputBillingCommitmentInputStatus},
};
static const struct aws_shape MinimumThroughputBillingCommitmentInput = {.name = "MinimumThroughputBillingCommitmentInput", .type = AWS_STRUCTURE,
    MEMBERS(members_MinimumThroughputBillingCommitmentInput)};
static const struct aws_member members_UpdateAccountSettingsInput[] = {
    {AWS_M_MinimumThroughputBillingCommitment, true, &MinimumThroughputBillingCommitmentInput},
};
static const struct aws_shape UpdateAccountSettingsInput = {.name = "UpdateAccountSettingsInput", .type = AWS_STRUCTURE, MEMBERS(members_UpdateAccountSettingsInput)};
static const struct aws_member members_S3DestinationUpdateInput[] = {
    {AWS_M_DataFreshnessInSeconds, true, &DataFreshnessInSeconds},
};
static const struct aws_shape S3DestinationUpdateInput = {.name = "S3DestinationUpdateInput", .type = AWS_STRUCTURE, MEMBERS(members_S3DestinationUpdateInput)};
static const struct aws_member members_S3TablesDestinationUpdateInput[] = {
    {AWS_M_DataFreshnessInSeconds, true, &DataFreshnessInSeconds},
};
static const struct aws_shape S3TablesDestinationUpdateInput = {.name = "S3TablesDestinationUpdateInput", .type = AWS_STRUCTURE,
    MEMBERS(members_S3TablesDestinationUpdateInput)};
static const struct aws_member members_CloudWatchLogsUpdateInput[] = {
    {AWS_M_Enabled, true, &BooleanObject},
    {AWS_M_LogGroupName, false, &CloudWatchLogGroupName},
    {AWS_M_LogStreamName, false, &CloudWatchLogStreamName},
};
static const struct aws_shape CloudWatchLogsUpdateInput = {.name = "CloudWatchLogsUpdateInput", .type = AWS_STRUCTURE, MEMBERS(members_CloudWatchLogsUpdateInput)};
static const struct aws_member members_ChannelLoggingUpdateInput[] = {
    {AWS_M_CloudWatchLogs, true, &CloudWatchLogsUpdateInput},
};
static const struct aws_shape ChannelLoggingUpdateInput = {.name = "ChannelLoggingUpdateInput", .type = AWS_STRUCTURE, MEMBERS(members_ChannelLoggingUpdateInput)};
static const struct aws_member members_UpdateChannelInput[] = {
    {AWS_M_ChannelARN, true, &ChannelARN},
    {AWS_M_S3DestinationConfiguration, false, &S3DestinationUpdateInput},
    {AWS_M_S3TablesDestinationConfiguration, false, &S3TablesDestinationUpdateInput},
    {AWS_M_LoggingConfiguration, false, &ChannelLoggingUpdateInput},
};
static const struct aws_shape UpdateChannelInput = {.name = "UpdateChannelInput", .type = AWS_STRUCTURE, MEMBERS(members_UpdateChannelInput)};
static const struct aws_member members_UpdateMaxRecordSizeInput[] = {
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_MaxRecordSizeInKiB, true, &MaxRecordSizeInKiB},
};
static const struct aws_shape UpdateMaxRecordSizeInput = {.name = "UpdateMaxRecordSizeInput", .type = AWS_STRUCTURE, MEMBERS(members_UpdateMaxRecordSizeInput)};
static const char *const values_ScalingType[] = {"UNIFORM_SCALING"};
static const struct aws_shape ScalingType = {.name = "ScalingType", .type = AWS_STRING, VALUES(values_ScalingType)};
static const struct aws_member members_UpdateShardCountInput[] = {
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_TargetShardCount, true, &PositiveIntegerObject},
    {AWS_M_ScalingType, true, &ScalingType},
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
};
static const struct aws_shape UpdateShardCountInput = {.name = "UpdateShardCountInput", .type = AWS_STRUCTURE, MEMBERS(members_UpdateShardCountInput)};
static const struct aws_member members_UpdateStreamModeInput[] = {
    {AWS_M_StreamARN, true, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_StreamModeDetails, true, &StreamModeDetails},
    {AWS_M_WarmThroughputMiBps, false, &NaturalIntegerObject},
};
static const struct aws_shape UpdateStreamModeInput = {.name = "UpdateStreamModeInput", .type = AWS_STRUCTURE, MEMBERS(members_UpdateStreamModeInput)};
static const struct aws_member members_UpdateStreamRecordDistributionStrategyInput[] = {
    {AWS_M_StreamARN, true, &StreamARN},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_RecordDistributionStrategy, true, &RecordDistributionStrategy},
};
static const struct aws_shape UpdateStreamRecordDistributionStrategyInput = {.name = "UpdateStreamRecordDistributionStrategyInput", .type = AWS_STRUCTURE,
    MEMBERS(members_UpdateStreamRecordDistributionStrategyInput)};
static const struct aws_member members_UpdateStreamWarmThroughputInput[] = {
    {AWS_M_StreamARN, false, &StreamARN},
    {AWS_M_StreamName, false, &StreamName},
    {AWS_M_StreamId, false, &StreamId},
    {AWS_M_WarmThroughputMiBps, true, &NaturalIntegerObject},
};
static const struct aws_shape UpdateStreamWarmThroughputInput = {.name = "UpdateStreamWarmThroughputInput", .type = AWS_STRUCTURE,
    MEMBERS(members_UpdateStreamWarmThroughputInput)};

const struct aws_operation aws_operations[AWS_OPERATION_COUNT] = {
    [AWS_OP_AddTagsToStream] = {"AddTagsToStream", &AddTagsToStreamInput, false, false},
    [AWS_OP_CreateChannel] = {"CreateChannel", &CreateChannelInput, true, false},
    [AWS_OP_CreateStream] = {"CreateStream", &CreateStreamInput, false, false},
    [AWS_OP_DecreaseStreamRetentionPeriod] = {"DecreaseStreamRetentionPeriod", &DecreaseStreamRetentionPeriodInput, false, false},
    [AWS_OP_DeleteChannel] = {"DeleteChannel", &DeleteChannelInput, false, false},
    [AWS_OP_DeleteResourcePolicy] = {"DeleteResourcePolicy", &DeleteResourcePolicyInput, false, false},
    [AWS_OP_DeleteStream] = {"DeleteStream", &DeleteStreamInput, false, false},
    [AWS_OP_DeregisterStreamConsumer] = {"DeregisterStreamConsumer", &DeregisterStreamConsumerInput, false, false},
    [AWS_OP_DescribeAccountSettings] = {"DescribeAccountSettings", &DescribeAccountSettingsInput, true, false},
    [AWS_OP_DescribeChannel] = {"DescribeChannel", &DescribeChannelInput, true, false},
    [AWS_OP_DescribeLimits] = {"DescribeLimits", &DescribeLimitsInput, true, false},
    [AWS_OP_DescribeStream] = {"DescribeStream", &DescribeStreamInput, true, false},
    [AWS_OP_DescribeStreamConsumer] = {"DescribeStreamConsumer", &DescribeStreamConsumerInput, true, false},
    [AWS_OP_DescribeStreamSummary] = {"DescribeStreamSummary", &DescribeStreamSummaryInput, true, false},
    [AWS_OP_DisableEnhancedMonitoring] = {"DisableEnhancedMonitoring", &DisableEnhancedMonitoringInput, true, false},
    [AWS_OP_EnableEnhancedMonitoring] = {"EnableEnhancedMonitoring", &EnableEnhancedMonitoringInput, true, false},
    [AWS_OP_GetRecords] = {"GetRecords", &GetRecordsInput, true, false},
    [AWS_OP_GetResourcePolicy] = {"GetResourcePolicy", &GetResourcePolicyInput, true, false},
    [AWS_OP_GetShardIterator] = {"GetShardIterator", &GetShardIteratorInput, true, false},
    [AWS_OP_IncreaseStreamRetentionPeriod] = {"IncreaseStreamRetentionPeriod", &IncreaseStreamRetentionPeriodInput, false, false},
    [AWS_OP_ListChannels] = {"ListChannels", &ListChannelsInput, true, false},
    [AWS_OP_ListShards] = {"ListShards", &ListShardsInput, true, false},
    [AWS_OP_ListStreamConsumers] = {"ListStreamConsumers", &ListStreamConsumersInput, true, false},
    [AWS_OP_ListStreams] = {"ListStreams", &ListStreamsInput, true, false},
    [AWS_OP_ListTagsForResource] = {"ListTagsForResource", &ListTagsForResourceInput, true, false},
    [AWS_OP_ListTagsForStream] = {"ListTagsForStream", &ListTagsForStreamInput, true, false},
    [AWS_OP_MergeShards] = {"MergeShards", &MergeShardsInput, false, false},
    [AWS_OP_PutRecord] = {"PutRecord", &PutRecordInput, true, false},
    [AWS_OP_PutRecords] = {"PutRecords", &PutRecordsInput, true, false},
    [AWS_OP_PutResourcePolicy] = {"PutResourcePolicy", &PutResourcePolicyInput, false, false},
    [AWS_OP_RegisterStreamConsumer] = {"RegisterStreamConsumer", &RegisterStreamConsumerInput, true, false},
    [AWS_OP_RemoveTagsFromStream] = {"RemoveTagsFromStream", &RemoveTagsFromStreamInput, false, false},
    [AWS_OP_SplitShard] = {"SplitShard", &SplitShardInput, false, false},
    [AWS_OP_StartStreamEncryption] = {"StartStreamEncryption", &StartStreamEncryptionInput, false, false},
    [AWS_OP_StopStreamEncryption] = {"StopStreamEncryption", &StopStreamEncryptionInput, false, false},
    [AWS_OP_SubscribeToShard] = {"SubscribeToShard", &SubscribeToShardInput, true, true},
    [AWS_OP_TagResource] = {"TagResource", &TagResourceInput, false, false},
    [AWS_OP_UntagResource] = {"UntagResource", &UntagResourceInput, false, false},
    [AWS_OP_UpdateAccountSettings] = {"UpdateAccountSettings", &UpdateAccountSettingsInput, true, false},
    [AWS_OP_UpdateChannel] = {"UpdateChannel", &UpdateChannelInput, true, false},
    [AWS_OP_UpdateMaxRecordSize] = {"UpdateMaxRecordSize", &UpdateMaxRecordSizeInput, false, false},
    [AWS_OP_UpdateShardCount] = {"UpdateShardCount", &UpdateShardCountInput, true, false},
    [AWS_OP_UpdateStreamMode] = {"UpdateStreamMode", &UpdateStreamModeInput, false, false},
    [AWS_OP_UpdateStreamRecordDistributionStrategy] = {"UpdateStreamRecordDistributionStrategy", &UpdateStreamRecordDistributionStrategyInput, false, false},
    [AWS_OP_UpdateStreamWarmThroughput] = {"UpdateStreamWarmThroughput", &UpdateStreamWarmThroughputInput, true, false},
};

const char *const aws_member_names[AWS_MEMBER_COUNT] = {
#define X(name) #name,
    AWS_MEMBERS(X)
#undef X
};
